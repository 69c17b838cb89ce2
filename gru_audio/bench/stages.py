"""The stages of the int8 sample loop, each repeated by itself: the time that it takes where nothing hides it.

The loop itself overlaps them: it computes some of the next step's recurrent products while it draws. Shapes: see
model.py and synthesis/packing.py.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from gru_audio.jit import compiled
from gru_audio.lanes import processor_features
from gru_audio.mel import FloatArray
from gru_audio.mulaw import encode
from gru_audio.synthesis import int8_stages
from gru_audio.synthesis.byte_products import activation_offset, byte_product_for
from gru_audio.synthesis.folding import FoldedNetwork
from gru_audio.synthesis.int8_kernels import Sizes, n_ready_groups, scratch_for, sizes_of
from gru_audio.synthesis.int8_stages import (
    GRUAddresses,
    ReadoutAddresses,
    TreeAddresses,
    find_rows,
    multiply_gru,
    read_out,
    step_gru,
    to_activations,
    walk_subtree,
    weigh_nodes,
)
from gru_audio.synthesis.packing import (
    SUBTREE_BITS,
    aligned,
    pack_gru,
    pack_readout,
    pack_tree,
    state_bytes,
)

ByteArray = npt.NDArray[np.uint8]
IntArray = npt.NDArray[np.int64]

_RMS_OF_CODES = 1 / 8  # of what they stand for: the excitation is divided by 8 gains, the signal by 6
_BYTES = 256  # that there are
_ZERO, _ONE = np.float32(0), np.float32(1)


class Int8Stages:
    """The stages over one network's packed layers, on made-up codes, inputs and uniform numbers.

    Attributes:
        gru: the recurrent layer.
        readout: the readout.
        tree: the output.
        codes: (T, n) for each table of a step, or of a readout.
        gate_inputs: (N, 3, 16) int32, a frame's.
        readout_inputs: (S, R') int32, a frame's.
        hidden: (H',) the state.
        activations: (H',) bytes of it.
        new_hidden: (H',) the state after all steps.
        new_activations: (H',) bytes of that.
        scratch: what the stages leave: `products`, `readout_sums` of the last step, and the readout's last `values` and
            their bytes, `row`.
        unit: of these bytes.
        uniforms: (T,) that codes are drawn with.
        drawn: (T,) the codes that the last run drew.
    """

    def __init__(self, network: FoldedNetwork, n_samples: int) -> None:
        """Pack the layers, make up the inputs and compile the stages, or load what was compiled.

        Args:
            network: a GRU with a tree.
            n_samples: how many each stage goes on for, rounded up to whole steps.
        """
        rng, config = np.random.default_rng(0), network.config
        offset = activation_offset(byte_product_for(processor_features()))
        self.gru, gate_scale = pack_gru(network, offset)
        self.readout, readout_scale = pack_readout(network, offset)
        self.tree = pack_tree(network)
        self.scratch = scratch_for(self.gru, self.readout)
        self._sizes = sizes_of(config, self.gru, self.readout)
        stride, n_tables = config.model.samples_per_step, len(self.gru.tables)
        self._n_steps = -(-n_samples // stride)
        n_samples = self._n_steps * stride
        amplitudes = rng.normal(0.0, _RMS_OF_CODES, (n_samples, n_tables))
        self.codes = encode(amplitudes, config.signal.n_classes).astype(np.int64)
        model = config.model
        (self.gate_inputs,) = gate_scale(_noise(rng, (1, 3 * model.gru_size)))  # (N, 3, 16)
        (self.readout_inputs,) = readout_scale(_noise(rng, (1, model.readout_size)))  # (S, R')
        self.hidden = aligned(np.tanh(_noise(rng, (self.gru.product_start.size,))))
        self.activations = aligned(state_bytes(self.hidden, offset))
        self.uniforms = rng.random(n_samples, np.float32)
        self.drawn = np.zeros(n_samples, np.int64)
        self._zeros = np.zeros(max(config.signal.n_classes, _BYTES), np.int64)
        self.unit, self.new_hidden, self.new_activations = _ZERO, self.hidden, aligned(self.activations)
        for run in self.runs().values():
            run()

    def runs(self) -> dict[str, Callable[[], int]]:
        """Each stage by its name, in the order of the loop; a run gives for how many samples it was done."""
        return {
            "products ahead": self._multiply,
            "other products, gates": self._step,
            "readout tables": self._read_out,
            "draw": self._draw,
        }

    def _multiply(self) -> int:
        layer, scratch = int8_stages.gru_addresses(self.gru), self.scratch
        _repeat_products(
            layer, self._sizes, self._n_steps, self.activations.ctypes.data, scratch.products.ctypes.data
        )
        return self.drawn.size

    def _step(self) -> int:
        self.new_hidden = aligned(self.hidden)
        _repeat_gates(
            int8_stages.gru_addresses(self.gru),
            int8_stages.readout_addresses(self.readout),
            self._sizes,
            tuple(range(len(self.gru.tables))),
            self.codes[: self._n_steps],
            self.scratch.rows,
            self.scratch.products.ctypes.data,
            self.gate_inputs.ctypes.data,
            self.readout_inputs.ctypes.data,
            self.new_hidden.ctypes.data,
            self.activations.ctypes.data,
            self.new_activations.ctypes.data,
            self.scratch.readout_sums.ctypes.data,
        )
        return self.drawn.size

    def _read_out(self) -> int:
        self.unit = _repeat_readout(
            int8_stages.readout_addresses(self.readout),
            self._sizes,
            tuple(range(len(self.readout.tables))),
            self.codes,
            self._zeros,
            self.scratch.rows,
            self.scratch.readout_sums.ctypes.data,
            self.scratch.values.ctypes.data,
            self.scratch.row,
        )
        return self.drawn.size

    def _draw(self) -> int:
        _repeat_draws(
            int8_stages.tree_addresses(self.tree),
            self._sizes,
            self.uniforms,
            self._zeros,
            self.scratch.row.ctypes.data,
            np.float32(self.unit),
            self.scratch.left,
            self.drawn,
        )
        return self.drawn.size


def _noise(rng: np.random.Generator, shape: tuple[int, ...]) -> FloatArray:
    return rng.standard_normal(shape, np.float32)


@compiled()
def _repeat_products(gru: GRUAddresses, sizes: Sizes, n_steps: int, activations: int, products: int) -> None:
    """The recurrent products that a step finds ready, over and over; for the last two see `multiply_gru`."""
    for _ in range(n_steps):
        multiply_gru(gru, sizes.blocks, 0, n_ready_groups(sizes, gru.n_groups), activations, products)


@compiled()
def _repeat_gates(
    gru: GRUAddresses,
    readout: ReadoutAddresses,
    sizes: Sizes,
    tables: tuple[int, ...],
    codes: IntArray,
    rows: IntArray,
    products: int,
    frame: int,
    readout_frame: int,
    hidden: int,
    before: int,
    after: int,
    readout_sums: int,
) -> None:
    """A step for each row of codes (steps, n); `tables` has as many numbers as there are tables.

    The products are always those with the bytes `before`.
    """
    flat = codes.ravel()
    for step in range(len(codes)):
        find_rows(gru, len(tables), flat, step * codes.shape[1], rows)
        step_gru(
            gru,
            sizes.blocks,
            readout,
            sizes.turns,
            sizes.readout_groups,
            n_ready_groups(sizes, gru.n_groups),
            products,
            rows.ctypes.data,
            len(tables),
            frame,
            readout_frame,
            hidden,
            before,
            after,
            readout_sums,
        )


@compiled()
def _repeat_readout(
    readout: ReadoutAddresses,
    sizes: Sizes,
    tables: tuple[int, ...],
    codes: IntArray,
    zeros: IntArray,
    rows: IntArray,
    sums: int,
    values: int,
    row: ByteArray,
) -> np.float32:
    """The rest of the readout for each row of codes (T, n), to bytes at `row`; gives their unit.

    In the loop a sample's codes wait for the one before. So they do here: zeros (256,) give 0 for whatever byte
    came out, which the compiler cannot know.
    """
    stride, n_groups = len(sizes.turns), len(sizes.readout_groups)
    flat = codes.ravel()
    unit: np.float32 = _ZERO
    for first in range(0, len(codes), stride):
        for i in range(stride):
            t = first + i + zeros[row[0]]
            find_rows(readout, len(tables), flat, t * codes.shape[1], rows)
            read_out(readout, i, n_groups, rows.ctypes.data, len(tables), sums, values)
            unit = to_activations(values, n_groups, row.ctypes.data)
    return unit


@compiled()
def _repeat_draws(
    tree: TreeAddresses,
    sizes: Sizes,
    uniforms: FloatArray,
    zeros: IntArray,
    row: int,
    unit: np.float32,
    probabilities: FloatArray,
    drawn: IntArray,
) -> None:
    """Draw a code with each uniform number (T,) from the readout's bytes at `row`.

    Each draw waits for the one before, through zeros (Q,), as in `_repeat_readout`.
    """
    n_bits = len(sizes.bits)
    left, code = probabilities.ctypes.data, 0
    for t in range(uniforms.size):
        waiting_row = row + zeros[code]
        code, first_subtree, interval, uniform = 0, 0, _ONE, uniforms[t]
        for level in range(0, n_bits, SUBTREE_BITS):
            depth = min(SUBTREE_BITS, n_bits - level)
            subtree = first_subtree + code
            weigh_nodes(tree, subtree, sizes.readout_groups, waiting_row, unit, _ONE, _ZERO, left)
            node, interval, uniform = walk_subtree(probabilities, depth, interval, uniform, -1)
            code, first_subtree = (code << depth) + node, first_subtree + (1 << level)
        drawn[t] = code
