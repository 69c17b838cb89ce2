"""The compiled engines: the sample loop as one numba function, one stream after the other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from gru_audio.config import Config
from gru_audio.errors import ConfigError
from gru_audio.mel import FloatArray
from gru_audio.mulaw import expansion_table, thresholds
from gru_audio.synthesis import int8_kernels, kernels
from gru_audio.synthesis.folding import FoldedNetwork, can_compile
from gru_audio.synthesis.frontend import FrameBlock
from gru_audio.synthesis.packing import LARGEST_ACTIVATION, pack_gru, pack_readout, pack_tree
from gru_audio.synthesis.vectors import activation_offset, byte_product_for, processor_features


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
    """How the codes of a block are drawn; see `distribution.draw`.

    Attributes:
        uniforms: (T,) in [0, 1).
        temperature: divides the logits.
        tail_cut: branches less likely are never taken.
    """

    uniforms: FloatArray
    temperature: float
    tail_cut: float


class Loop(Protocol):
    """A compiled sample loop over one network's weights."""

    def __call__(self, stream: StreamState, block: FrameBlock, draws: Draws, past: "Past", out: FloatArray) -> None:
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
                past = Past(
                    np.concatenate([stream.codes, np.empty(out.size, np.int64)]),
                    np.concatenate([stream.rebuilt, np.empty(out.size, np.float32)]),
                )
                self._loop(stream, block, Draws(row, temperature, tail_cut), past, out)
                stream.codes, stream.rebuilt = past.codes[out.size :], past.rebuilt[out.size :]
        return audio

    def export_state(self, state: list[StreamState]) -> dict[str, npt.NDArray[np.generic]]:
        """The state of one stream as arrays: a copy."""
        return {name: array.copy() for name, array in vars(state[0]).items()}

    def import_state(self, arrays: Mapping[str, npt.NDArray[np.generic]]) -> list[StreamState]:
        """The state that `export_state` gave, of this engine or of another.

        Raises:
            ConfigError: an array is missing or has another shape.
        """
        (state,) = self.start(1)
        for name, own in vars(state).items():
            if name not in arrays or arrays[name].shape != own.shape:
                found = arrays[name].shape if name in arrays else "nothing"
                raise ConfigError(f"saved stream: '{name}' is {found}, not {own.shape}; it is of another voice")
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

    def __call__(self, stream: StreamState, block: FrameBlock, draws: Draws, past: Past, out: FloatArray) -> None:
        """See `Loop`."""
        model = self._model
        sizes = (3 * model.gru_size, 3 * model.gru_size, (4, model.gru_size), 2 * model.gru_size)
        readout_sizes = (model.samples_per_step * model.readout_size, model.readout_size)
        kernels.generate(
            self._network,
            self._signal,
            (block.gate_inputs, block.readout_inputs, *_filters(block)),
            block.lags,
            draws.uniforms,
            draws.temperature,
            draws.tail_cut,
            stream.hidden,
            past.codes,
            past.rebuilt,
            stream.audio,
            tuple(np.empty(size, np.float32) for size in (*sizes, *readout_sizes)),
            np.empty(2 * model.gru_size, np.int32),
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
            int8_kernels.gru_addresses(self._gru),
            int8_kernels.readout_addresses(self._readout),
            int8_kernels.tree_addresses(self._tree, network.config.signal.bits),
        )
        self._model = network.config.model
        self._signal = int8_kernels.signal_tables(network.config.signal)

    def __call__(self, stream: StreamState, block: FrameBlock, draws: Draws, past: Past, out: FloatArray) -> None:
        """See `Loop`."""
        model = self._model
        n_groups = len(self._gru.product_start)
        hidden = np.zeros(n_groups * int8_kernels.LANES, np.float32)
        hidden[: model.gru_size] = stream.hidden
        activations = np.empty((2, hidden.size), np.uint8)
        activations[0] = np.rint(hidden * np.float32(LARGEST_ACTIVATION)).astype(np.int16) + self._offset
        gates = block.gate_inputs.reshape(len(block), 3, model.gru_size)
        gates = np.pad(gates, ((0, 0), (0, 0), (0, hidden.size - model.gru_size)))
        gates = np.moveaxis(gates.reshape(len(block), 3, n_groups, -1), 2, 1)
        readout = np.pad(
            block.readout_inputs, ((0, 0), (0, self._readout.units.size - model.readout_size))
        )[:, None]
        int8_kernels.generate(
            *self._addresses,
            tuple(range(model.samples_per_step)),
            self._signal,
            int8_kernels.Frames(
                self._gate_scale(gates), self._readout_scale(readout), *_filters(block), block.lags
            ),
            draws.uniforms,
            np.float32(1 / draws.temperature),
            np.float32(draws.tail_cut),
            hidden,
            activations,
            past.codes,
            past.rebuilt,
            stream.audio,
            out,
        )
        stream.hidden[:] = hidden[: model.gru_size]


def _filters(block: FrameBlock) -> tuple[FloatArray, FloatArray, FloatArray]:
    filters = block.filters
    return filters.coefficients, filters.excitation_scale, filters.signal_scale


def _require_compilable(engine: str, network: FoldedNetwork) -> None:
    if not can_compile(network.config):
        model = network.config.model
        raise ConfigError(
            f"engine '{engine}' runs a gru with a tree, this voice is a {model.cell} with a {model.output}; "
            "use the engine torch"
        )
