"""What a sample asks of the machine, counted from the network, and how long that takes at the least.

Counted are the recurrent layer, the readout, the tree's nodes on the way to a code, and the table rows of the
codes; not the work of a frame, which falls to its 200 or so samples. For float32 and torch these are the weights
that pruning left, whether an engine leaves the others out or not, and the rows. For int8 it is all that the loop reads
and writes of its packed layers, their empty places included, as those are small. Shapes: see model.py and
synthesis/packing.py; G is the number of the cell's gates.
"""

from dataclasses import dataclass

import numpy as np

from gru_audio.bench.limits import Limits
from gru_audio.synthesis.folding import GATES, FoldedNetwork, fold
from gru_audio.synthesis.int8_kernels import n_ready_groups, sizes_of
from gru_audio.synthesis.packing import SUBTREE_BITS, pack_gru, pack_readout, pack_tree
from gru_audio.voice import Voice

_NUMBER_BYTES = 4
_ACTIVATION_BYTES = 1 + _NUMBER_BYTES  # as a byte, and as a number before


@dataclass(frozen=True)
class Work:
    """What a sample needs.

    Attributes:
        bytes_per_sample: read or written; what is written and read again counts twice.
        working_set_bytes: where all of a recurrent step's S samples lie, once each.
        macs_per_sample: multiply-adds of the products.
    """

    bytes_per_sample: float
    working_set_bytes: int
    macs_per_sample: float


@dataclass(frozen=True)
class Bound:
    """The least time that a sample's work takes on one core.

    Attributes:
        read_us: to read its bytes, if a step's working set is in the smallest cache that can hold it.
        multiply_us: to do its multiply-adds.
        us_per_sample: the longer of the two, as they can overlap.
        limited_by: which one it is, `"reading"` or `"multiplying"`.
    """

    read_us: float
    multiply_us: float
    us_per_sample: float
    limited_by: str


def work_of(voice: Voice, engine: str) -> Work:
    """The work of a sample of a voice, with the number formats of an engine of `ENGINES`.

    Raises:
        CheckpointError: the voice's tensors do not fit its config.
    """
    network = fold(voice)
    return _int8_work(network) if engine == "int8" else _float32_work(network)


def _float32_work(network: FoldedNetwork) -> Work:
    config, model = network.config, network.config.model
    (n_step_tables, n_readout_tables), stride = config.table_counts, model.samples_per_step
    n_outputs = config.signal.bits if model.output == "tree" else config.n_outputs
    n_weights = int(np.count_nonzero(network.recurrent)) + network.readout_hidden.size
    n_weights += stride * n_outputs * model.readout_size
    n_row_numbers = n_step_tables * GATES[model.cell] * model.gru_size
    n_row_numbers += stride * n_readout_tables * model.readout_size
    step_bytes = _NUMBER_BYTES * (n_weights + n_row_numbers)
    return Work(step_bytes / stride, step_bytes, n_weights / stride)


def _int8_work(network: FoldedNetwork) -> Work:
    stride = network.config.model.samples_per_step
    # The offset of activations changes the values that are packed, not how many there are.
    gru, readout, tree = pack_gru(network, 0)[0], pack_readout(network, 0)[0], pack_tree(network)
    n_ready = n_ready_groups(sizes_of(network.config, gru, readout), len(gru.product_start))
    n_subtrees = -(-network.config.signal.bits // SUBTREE_BITS)  # on the way to a code
    n_units, n_readout_units = gru.product_start.size, readout.units.size
    gate_bytes = 3 * _NUMBER_BYTES * n_units
    step_bytes = (
        gru.blocks.nbytes
        + gru.columns[: len(gru.blocks)].nbytes
        + gru.constants.nbytes
        + gru.product_start.nbytes
    )
    step_bytes += gru.tables[:, 0].nbytes + gate_bytes + readout.blocks.nbytes
    sample_bytes = readout.tables[:, 0].nbytes + 2 * readout.units.nbytes  # the units, and the frame's inputs
    sample_bytes += n_subtrees * (tree.blocks[0].nbytes + tree.units[0].nbytes + tree.bias[0].nbytes)
    # Products ahead and the state of a step, and the sums and values of a sample's readout, are written and read.
    step_bytes_twice = gate_bytes * n_ready // len(gru.product_start) + _ACTIVATION_BYTES * n_units
    sample_bytes_twice = (_NUMBER_BYTES + _ACTIVATION_BYTES) * n_readout_units
    once = step_bytes + stride * sample_bytes
    twice = step_bytes_twice + stride * sample_bytes_twice
    n_weights = gru.blocks.size + readout.blocks.size + stride * n_subtrees * tree.blocks[0].size
    return Work((once + 2 * twice) / stride, once + twice, n_weights / stride)


def bound_of(work: Work, engine: str, limits: Limits) -> Bound:
    """The least time of a sample."""
    macs_per_s = limits.int8_macs_per_s if engine == "int8" else limits.float32_macs_per_s
    read_us = 1e6 * work.bytes_per_sample / limits.read_bytes_per_s(work.working_set_bytes)
    multiply_us = 1e6 * work.macs_per_sample / macs_per_s
    limited_by = "reading" if read_us >= multiply_us else "multiplying"
    return Bound(read_us, multiply_us, max(read_us, multiply_us), limited_by)
