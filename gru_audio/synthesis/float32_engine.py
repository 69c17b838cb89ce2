"""The sample loop in float32 over a folded network's weights, laid out for native/loops/float32_loop.c."""

import numpy as np
import numpy.typing as npt

from gru_audio.arrays import FloatArray
from gru_audio.config import GATES
from gru_audio.native import library
from gru_audio.native.dense import in_whole_vectors
from gru_audio.native.library import Float, Floats, Int, Int64s
from gru_audio.network.blocks import BLOCK_COLUMNS, BLOCK_ROWS
from gru_audio.signal.mulaw import expansion_table, group_means, thresholds
from gru_audio.synthesis.compiled import Block, Draws, Past, StreamState, block_of
from gru_audio.synthesis.folding import FoldedNetwork, require_compilable
from gru_audio.synthesis.frontend import FrameBlock
from gru_audio.synthesis.sampling import MEAN_BITS

_LANES = 16  # the numbers in one of the loop's vectors: what sizes are rounded up to
_GATES = GATES["gru"]


class _Network(library.Struct):
    """See float32_loop.c, `gru_float32_network`."""

    _fields_ = (
        ("gru_size", Int),
        ("readout_size", Int),
        ("samples_per_step", Int),
        ("order", Int),
        ("n_classes", Int),
        ("recurrent_ends", Int64s),
        ("recurrent_columns", Int64s),
        ("recurrent_weights", Floats),
        ("readout_ends", Int64s),
        ("readout_columns", Int64s),
        ("readout_weights", Floats),
        ("step_tables", Floats),
        ("new_bias", Floats),
        ("readout_bias", Floats),
        ("readout_tables", Floats),
        ("output", Floats),
        ("output_bias", Floats),
        ("edges", Floats),
        ("expansion", Floats),
        ("preemphasis", Float),
    )


_generate = library.function("gru_float32_generate", [_Network, Block, Floats])


class Float32Loop:
    """`gru_float32_generate` over a folded network."""

    def __init__(self, network: FoldedNetwork) -> None:
        """Take a network whose cell is a GRU and whose output is a tree."""
        require_compilable("engine 'float32'", network)
        model, signal = network.config.model, network.config.signal
        size, readout_size, stride = model.gru_size, model.readout_size, model.samples_per_step
        recurrent = in_whole_vectors(network.recurrent.reshape(_GATES, size, size), 2)  # (3, H', H')
        by_group = recurrent.reshape(_GATES, -1, _LANES, recurrent.shape[-1]).swapaxes(0, 1)
        readout = in_whole_vectors(
            network.readout_hidden.reshape(stride, readout_size, size), 2
        )  # (S, R', H')
        tables = network.step_tables.reshape(*network.step_tables.shape[:2], _GATES, size)
        self._network = _Network(
            gru_size=size,
            readout_size=readout_size,
            samples_per_step=stride,
            order=signal.lpc_order,
            n_classes=signal.n_classes,
            **_blocks("recurrent", by_group.reshape(-1, by_group.shape[-1])),
            **_blocks("readout", readout.reshape(-1, readout.shape[-1])),
            step_tables=in_whole_vectors(tables),
            new_bias=in_whole_vectors(network.recurrent_bias[2 * size :]),
            readout_bias=in_whole_vectors(network.readout_hidden_bias.reshape(stride, readout_size)),
            readout_tables=in_whole_vectors(network.readout_tables),
            output=in_whole_vectors(network.output),
            output_bias=network.output_bias,
            edges=thresholds(signal.n_classes),
            expansion=expansion_table(signal.n_classes),
            preemphasis=signal.preemphasis,
        )
        self._group_means = group_means(signal.n_classes, 1 << MEAN_BITS)
        n_units, n_readout = (-(-n // _LANES) * _LANES for n in (size, readout_size))
        self._scratch_size = 5 * n_units + (stride + 2) * n_readout

    def __call__(
        self, stream: StreamState, block: FrameBlock, draws: Draws, past: Past, out: FloatArray
    ) -> None:
        """See `Loop`."""
        scratch = np.empty(self._scratch_size, np.float32)
        _generate(self._network, block_of(stream, block, draws, past, out, self._group_means), scratch)


def _blocks(name: str, matrix: FloatArray) -> dict[str, npt.NDArray[np.generic]]:
    """The blocks of a matrix that are not empty, as fields of `_Network` whose names begin with `name`."""
    n_rows, n_columns = matrix.shape
    blocks = matrix.reshape(n_rows // BLOCK_ROWS, BLOCK_ROWS, n_columns // BLOCK_COLUMNS, BLOCK_COLUMNS)
    blocks = blocks.transpose(0, 2, 3, 1)  # (rows / 16, columns / 4, 4, 16)
    kept = blocks.any((2, 3))
    return {
        f"{name}_ends": np.cumsum(kept.sum(1)),
        f"{name}_columns": BLOCK_COLUMNS * np.nonzero(kept)[1],
        f"{name}_weights": _aligned(blocks[kept]),
    }


def _aligned(weights: FloatArray) -> FloatArray:
    """A copy that begins where a line of the cache does."""
    copy = library.aligned(weights.size).reshape(weights.shape)
    copy[...] = weights
    return copy
