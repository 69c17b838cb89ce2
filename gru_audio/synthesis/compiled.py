"""The float32 engine: the compiled sample loop, one stream after the other."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from gru_audio.errors import ConfigError
from gru_audio.mel import FloatArray
from gru_audio.mulaw import expansion_table, thresholds
from gru_audio.synthesis.folding import FoldedNetwork, can_compile
from gru_audio.synthesis.frontend import FrameBlock
from gru_audio.synthesis.kernels import generate


@dataclass
class StreamState:
    """One stream between two blocks, and its scratch space.

    Attributes:
        hidden: (H,) recurrent state.
        codes: (L,) the last excitation codes, newest last; L is the longest lag.
        rebuilt: (P,) the last pre-emphasised samples, newest last.
        audio: (1,) the last sample.
    """

    hidden: FloatArray
    codes: npt.NDArray[np.int64]
    rebuilt: FloatArray
    audio: FloatArray = field(default_factory=lambda: np.zeros(1, np.float32))


class Float32Engine:
    """Generates with numba, in float32, without torch."""

    in_step = False

    def __init__(self, network: FoldedNetwork) -> None:
        """Take a folded network.

        Raises:
            ConfigError: its cell is not a GRU, or its output is not a tree.
        """
        if not can_compile(network.config):
            model = network.config.model
            raise ConfigError(
                f"engine 'float32' runs a gru with a tree, this voice is a {model.cell} with a {model.output}; "
                "use the engine torch"
            )
        self._config = network.config
        self._network = (
            network.step_tables,
            network.recurrent,
            network.recurrent_bias,
            network.readout_hidden,
            network.readout_hidden_bias,
            network.readout_tables,
            network.output,
            network.output_bias,
        )
        signal = network.config.signal
        # Read-only arrays would be another type to numba, and compile the loop twice.
        tables = thresholds(signal.n_classes).copy(), expansion_table(signal.n_classes).copy()
        self._signal = (*tables, np.array([signal.preemphasis], np.float32))

    def start(self, n_streams: int) -> list[StreamState]:
        """The state of streams that have been silent for ever."""
        config = self._config
        return [
            StreamState(
                np.zeros(config.model.gru_size, np.float32),
                np.full(config.lag_max_samples, config.signal.n_classes // 2, np.int64),
                np.zeros(config.signal.lpc_order, np.float32),
            )
            for _ in range(n_streams)
        ]

    def generate(
        self,
        state: list[StreamState],
        blocks: Sequence[FrameBlock],
        uniforms: FloatArray,
        temperature: float = 1.0,
        tail_cut: float = 0.0,
    ) -> FloatArray:
        """Go on by one block of each stream; see `reference.TorchEngine.generate`."""
        audio = np.empty(uniforms.shape, np.float32)
        for stream, block, draws, out in zip(state, blocks, uniforms, audio, strict=True):
            if len(block):
                self._generate_one(stream, block, draws, temperature, tail_cut, out)
        return audio

    def _generate_one(
        self,
        stream: StreamState,
        block: FrameBlock,
        uniforms: FloatArray,
        temperature: float,
        tail_cut: float,
        audio: FloatArray,
    ) -> None:
        model, n_samples = self._config.model, uniforms.size
        history = np.concatenate([stream.codes, np.empty(n_samples, np.int64)])
        past = np.concatenate([stream.rebuilt, np.empty(n_samples, np.float32)])
        sizes = (3 * model.gru_size, 3 * model.gru_size, (4, model.gru_size), 2 * model.gru_size)
        readout_sizes = (model.samples_per_step * model.readout_size, model.readout_size)
        scratch = tuple(np.empty(size, np.float32) for size in (*sizes, *readout_sizes))
        filters = block.filters
        frames = (
            block.gate_inputs,
            block.readout_inputs,
            filters.coefficients,
            filters.excitation_scale,
            filters.signal_scale,
        )
        generate(
            self._network,
            self._signal,
            frames,
            block.lags,
            uniforms,
            temperature,
            tail_cut,
            stream.hidden,
            history,
            past,
            stream.audio,
            scratch,
            np.empty(2 * model.gru_size, np.int32),
            audio,
        )
        stream.codes, stream.rebuilt = history[n_samples:], past[n_samples:]
