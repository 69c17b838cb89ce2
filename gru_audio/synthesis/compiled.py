"""The compiled engines: the sample loop as one numba function, one stream after the other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from gru_audio.config import Config
from gru_audio.errors import ConfigError
from gru_audio.lanes import processor_features
from gru_audio.mel import FloatArray
from gru_audio.mulaw import expansion_table, thresholds
from gru_audio.synthesis import int8_kernels, int8_stages, kernels
from gru_audio.synthesis.byte_products import activation_offset, byte_product_for
from gru_audio.synthesis.engines import require_saved
from gru_audio.synthesis.folding import FoldedNetwork, can_compile
from gru_audio.synthesis.frontend import FrameBlock
from gru_audio.synthesis.packing import (
    empty_aligned,
    pack_gru,
    pack_readout,
    pack_tree,
    state_bytes,
)


@dataclass
class StreamState:
    """One stream between two blocks.

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


@dataclass(frozen=True)
class Draws:
    """How the codes of a block come about; see `distribution.draw`.

    Attributes:
        uniforms: (T,) in [0, 1).
        temperature: divides the logits.
        tail_cut: branches less likely are never taken.
        forced: (T,) codes in place of what would be drawn; empty for none.
        probability: (T,) receives P of each forced code.
    """

    uniforms: FloatArray
    temperature: float = 1.0
    tail_cut: float = 0.0
    forced: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    probability: FloatArray = field(default_factory=lambda: np.empty(0, np.float32))


class Loop(Protocol):
    """A compiled sample loop over one network's weights."""

    def __call__(
        self, stream: StreamState, block: FrameBlock, draws: Draws, past: "Past", out: FloatArray
    ) -> None:
        """Generate a block's samples into `out` (T,), and write what `past` and the stream's `hidden` remember."""


@dataclass(frozen=True)
class Past:
    """What a block begins with, and room for what it adds.

    Attributes:
        codes: (L + T,) excitation codes.
        rebuilt: (P + T,) pre-emphasised samples.
    """

    codes: npt.NDArray[np.int64]
    rebuilt: FloatArray


class CompiledEngine:
    """Generates with numba, without torch."""

    in_step = False

    def __init__(self, config: Config, loop: Loop) -> None:
        """Run a loop over streams."""
        self._config, self._loop = config, loop

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
        for stream, block, row, out in zip(state, blocks, uniforms, audio, strict=True):
            if len(block):
                self._advance(stream, block, Draws(row, temperature, tail_cut), out)
        return audio

    def probabilities(self, block: FrameBlock, codes: npt.NDArray[np.int64]) -> FloatArray:
        """P of each given code (T,) under teacher forcing, from silence on: (T,)."""
        (stream,) = self.start(1)
        probability, out = np.empty((2, codes.size), np.float32)
        unused = np.zeros(codes.size, np.float32)
        self._advance(stream, block, Draws(unused, forced=codes, probability=probability), out)
        return probability

    def _advance(self, stream: StreamState, block: FrameBlock, draws: Draws, out: FloatArray) -> None:
        past = Past(
            np.concatenate([stream.codes, np.empty(out.size, np.int64)]),
            np.concatenate([stream.rebuilt, np.empty(out.size, np.float32)]),
        )
        self._loop(stream, block, draws, past, out)
        stream.codes, stream.rebuilt = past.codes[out.size :], past.rebuilt[out.size :]

    def export_state(self, state: list[StreamState]) -> dict[str, npt.NDArray[np.generic]]:
        """The state of one stream as arrays: a copy."""
        return {name: array.copy() for name, array in vars(state[0]).items()}

    def import_state(self, arrays: Mapping[str, npt.NDArray[np.generic]]) -> list[StreamState]:
        """The state that `export_state` gave, of this engine or of another.

        Raises:
            ConfigError: an array is missing or has another shape or type.
        """
        (state,) = self.start(1)
        require_saved(arrays, vars(state))
        for name, own in vars(state).items():
            own[...] = arrays[name]
        return [state]


class Float32Loop:
    """`kernels.generate` over a folded network."""

    def __init__(self, network: FoldedNetwork) -> None:
        """Take a network whose cell is a GRU and whose output is a tree."""
        _require_compilable("float32", network)
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
        self._model = network.config.model
        signal = network.config.signal
        # Read-only arrays would be another type to numba, and compile the loop twice.
        tables = thresholds(signal.n_classes).copy(), expansion_table(signal.n_classes).copy()
        self._signal = (*tables, np.array([signal.preemphasis], np.float32))

    def __call__(
        self, stream: StreamState, block: FrameBlock, draws: Draws, past: Past, out: FloatArray
    ) -> None:
        """See `Loop`."""
        model = self._model
        sizes = (3 * model.gru_size, 3 * model.gru_size, (4, model.gru_size), 2 * model.gru_size)
        readout_sizes = (model.samples_per_step * model.readout_size, model.readout_size)
        kernels.generate(
            self._network,
            self._signal,
            (
                block.gate_inputs,
                block.readout_inputs,
                block.filters.coefficients,
                block.filters.excitation_scale,
                block.filters.signal_scale,
            ),
            block.lags,
            draws.uniforms,
            draws.forced,
            draws.temperature,
            draws.tail_cut,
            stream.hidden,
            past.codes,
            past.rebuilt,
            stream.audio,
            tuple(np.empty(size, np.float32) for size in (*sizes, *readout_sizes)),
            np.empty(2 * model.gru_size, np.int32),
            draws.probability if draws.forced.size else np.empty_like(out),
            out,
        )


class Int8Loop:
    """`int8_kernels.generate` over a network that it quantises and packs."""

    def __init__(self, network: FoldedNetwork) -> None:
        """Take a network whose cell is a GRU and whose output is a tree."""
        _require_compilable("int8", network)
        self._offset = activation_offset(byte_product_for(processor_features()))
        self._gru, self._gate_scale = pack_gru(network, self._offset)
        self._readout, self._readout_scale = pack_readout(network, self._offset)
        self._tree = pack_tree(network)
        self._addresses = (
            int8_stages.gru_addresses(self._gru),
            int8_stages.readout_addresses(self._readout),
            int8_stages.tree_addresses(self._tree),
        )
        self._model = network.config.model
        self._sizes = int8_kernels.sizes_of(network.config, self._gru, self._readout)
        self._signal = int8_kernels.signal_tables(network.config.signal)

    def __call__(
        self, stream: StreamState, block: FrameBlock, draws: Draws, past: Past, out: FloatArray
    ) -> None:
        """See `Loop`."""
        size = self._model.gru_size
        hidden = empty_aligned((self._gru.product_start.size,), np.float32)
        hidden[:size], hidden[size:] = stream.hidden, 0.0
        activations = empty_aligned((2, hidden.size), np.uint8)
        activations[0] = state_bytes(hidden, self._offset)
        frames = int8_kernels.Frames(
            self._gate_scale(block.gate_inputs),
            self._readout_scale(block.readout_inputs),
            block.filters.coefficients,
            block.filters.excitation_scale,
            np.float32(1) / block.filters.signal_scale,
            block.lags,
        )
        int8_kernels.generate(
            *self._addresses,
            self._sizes._replace(forced=(0,) if draws.forced.size else ()),
            self._signal,
            frames,
            int8_kernels.Stream(
                hidden,
                activations,
                past.codes,
                past.rebuilt,
                stream.audio,
                draws.uniforms,
                draws.forced,
                draws.probability,
            ),
            np.float32(1 / draws.temperature),
            np.float32(draws.tail_cut),
            int8_kernels.scratch_for(self._gru, self._readout),
            out,
        )
        stream.hidden[:] = hidden[:size]


def _require_compilable(engine: str, network: FoldedNetwork) -> None:
    if not can_compile(network.config):
        model = network.config.model
        raise ConfigError(
            f"engine '{engine}' runs a gru with a tree, this voice is a {model.cell} with a {model.output}; "
            "use the engine torch"
        )
