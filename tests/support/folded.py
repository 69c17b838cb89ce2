"""Random folded networks and frames for the sample loops: no torch, no front end."""

import numpy as np
from numpy.typing import NDArray

from gru_audio.config import Config
from gru_audio.network.blocks import kept_readout, kept_weights
from gru_audio.signal.lpc import FrameFilters
from gru_audio.synthesis.folding import FoldedNetwork, fold
from gru_audio.synthesis.frontend import ConditioningWeights, FrameBlock, whole_block
from gru_audio.voice.voice import Voice
from support.small import small_config

Floats = NDArray[np.float32]

HOP = 40


def voiceless_config(stride: int, lpc_order: int, bits: int, gru_size: int, readout_size: int) -> Config:
    """A config of these sizes."""
    sizes = {"samples_per_step": stride, "gru_size": gru_size, "readout_size": readout_size}
    return small_config(lpc_order, bits, hop_samples=HOP, **sizes)


def random_network(
    config: Config,
    seed: int = 0,
    densities: tuple[float, ...] = (1.0, 1.0, 1.0),
    readout_density: float = 1.0,
) -> FoldedNetwork:
    """A network whose gates move, whose units of the readout are not all dead and whose codes are not all alike."""
    random, model, n_classes = np.random.default_rng(seed), config.model, config.signal.n_classes
    size, conditioning = model.gru_size, model.conditioning_size
    n_step_tables, n_readout_tables = config.table_counts

    def normal(scale: float, *shape: int) -> Floats:
        return (scale * random.standard_normal(shape)).astype(np.float32)

    def recurrent() -> Floats:
        weight = normal(1.5 / np.sqrt(size), 3 * size, size)
        return weight * kept_weights(weight, densities)

    def readout() -> Floats:
        weight = normal(1 / np.sqrt(size), model.samples_per_step * model.readout_size, size)
        return weight * kept_readout(weight, model.samples_per_step, readout_density)

    inside = np.repeat([0, 0, 1], size).astype(np.float32)  # the new gate's bias stays with its product
    return FoldedNetwork(
        config=config,
        step_tables=normal(0.5, n_step_tables, n_classes, 3 * size),
        gate_conditioning=normal(0.5, 3 * size, conditioning),
        gate_bias=normal(0.2, 3 * size),
        recurrent=recurrent(),
        recurrent_bias=inside * normal(0.2, 3 * size),
        readout_hidden=readout(),
        readout_hidden_bias=normal(0.3, model.samples_per_step * model.readout_size),
        readout_conditioning=normal(0.5, model.readout_size, conditioning),
        readout_tables=normal(0.3, n_readout_tables, n_classes, model.readout_size),
        output=normal(1.0, n_classes - 1, model.readout_size),
        output_bias=normal(0.3, n_classes - 1),
    )


def random_block(config: Config, n_frames: int, seed: int = 1) -> FrameBlock:
    """Frames of a network: a stable predictor, voiced and unvoiced ones."""
    random, order = np.random.default_rng(seed), config.signal.lpc_order

    def normal(*shape: int) -> Floats:
        return random.standard_normal(shape).astype(np.float32)

    lags = random.integers(config.lag_min_samples, config.lag_max_samples + 1, n_frames)
    return FrameBlock(
        normal(n_frames, 3 * config.model.gru_size),
        normal(n_frames, config.model.readout_size),
        FrameFilters(
            0.3 * normal(n_frames, order) / np.float32(max(order, 1)),
            np.full(n_frames, 0.1, np.float32),
            np.full(n_frames, 0.3, np.float32),
        ),
        np.where(np.arange(n_frames) % 3 == 1, 0, lags) if order else np.zeros(n_frames, np.int64),
        np.abs(normal(n_frames, config.mel.n_mels)),
    )


def block_of(voice: Voice, mel: Floats) -> FrameBlock:
    """What a voice's front end makes of a whole mel (F, M)."""
    return whole_block(ConditioningWeights(voice, fold(voice)), mel)
