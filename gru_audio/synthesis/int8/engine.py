"""The sample loop in int8 over a folded network's weights, quantised and packed for native/int8/int8_loop.c."""

import numpy as np
import numpy.typing as npt

from gru_audio.arrays import FloatArray
from gru_audio.native import library
from gru_audio.native.library import Int16s, Int32s, SignedBytes
from gru_audio.signal.mulaw import group_means
from gru_audio.synthesis.compiled import Block, Draws, Past, StreamState, block_of
from gru_audio.synthesis.folding import FoldedNetwork, require_compilable
from gru_audio.synthesis.frontend import FrameBlock
from gru_audio.synthesis.int8.layout import QUAD_ROWS, aligned
from gru_audio.synthesis.int8.packing import Int8Network, pack
from gru_audio.synthesis.sampling import MEAN_BITS


class Int8Room(library.Struct):
    """C's `struct gru_int8_room`: what one stream works in."""

    _fields_ = (
        ("hidden", Int16s),
        ("activations", SignedBytes),
        ("sums", Int32s),
        ("starts", Int32s),
        ("next_starts", Int32s),
        ("readout_starts", Int32s),
        ("next_readout_starts", Int32s),
        ("readout_sums", Int32s),
        ("row", SignedBytes),
    )


def make_room(network: Int8Network) -> Int8Room:
    """Room for a stream over a network."""
    n_units, n_readout = (
        -(-size // QUAD_ROWS) * QUAD_ROWS for size in (network.gru_size, network.readout_size)
    )
    n_all_readouts = network.samples_per_step * n_readout
    sizes: dict[str, tuple[int, npt.DTypeLike]] = {
        "hidden": (n_units, np.int16),
        "activations": (n_units, np.int8),
        "sums": (3 * n_units, np.int32),
        **dict.fromkeys(("starts", "next_starts"), (4 * n_units, np.int32)),
        **dict.fromkeys(
            ("readout_starts", "next_readout_starts", "readout_sums"), (n_all_readouts, np.int32)
        ),
        "row": (2 * n_readout, np.int8),
    }
    return Int8Room(**{name: aligned(np.zeros(size, dtype), dtype) for name, (size, dtype) in sizes.items()})


_generate = library.function("gru_int8_generate", [Int8Network, Block, Int8Room])


class Int8Loop:
    """`gru_int8_generate` over a network that it quantises and packs."""

    def __init__(self, network: FoldedNetwork) -> None:
        """Take a network whose cell is a GRU and whose output is a tree."""
        require_compilable("engine 'int8'", network)
        self.network = pack(network)
        self._group_means = group_means(network.config.signal.n_classes, 1 << MEAN_BITS)
        self._free_rooms: list[Int8Room] = []  # what a call leaves in a room is nothing to the next one

    def __call__(
        self, stream: StreamState, block: FrameBlock, draws: Draws, past: Past, out: FloatArray
    ) -> None:
        """See `Loop`."""
        try:
            room = self._free_rooms.pop()
        except IndexError:  # all others are in use, by other threads
            room = make_room(self.network)
        _generate(self.network, self.block(stream, block, draws, past, out), room)
        self._free_rooms.append(room)

    def block(
        self, stream: StreamState, block: FrameBlock, draws: Draws, past: Past, out: FloatArray
    ) -> Block:
        """The arguments of a call of `gru_int8_generate`."""
        return block_of(stream, block, draws, past, out, self._group_means)
