"""What a sample asks of the machine, counted from the network, and how long that takes at the least.

Counted are the recurrent layer, the readout, the tree's nodes on the way to a code, and the table rows of the
codes; not the work of a frame, which falls to its 200 or so samples. For float32 and torch these are the weights
that pruning left, whether an engine leaves the others out or not, and the rows. For int8 it is all that the loop reads
and writes of its packed layers, their empty places included, as those are small. Shapes: see model.py and
synthesis/int8/packing.py; G is the number of the cell's gates.
"""

from dataclasses import dataclass

import numpy as np

from gru_audio.bench.limits import Limits
from gru_audio.config import GATES
from gru_audio.synthesis.folding import FoldedNetwork, fold
from gru_audio.synthesis.int8.packing import QUAD_BLOCKS, SUBTREE_BITS, pack
from gru_audio.voice.voice import Voice

_NUMBER_BYTES = 4
_COLUMN_BYTES = 2  # a block's place
_SUMS = 4  # of a unit; see native/int8/int8.h
_STATE_BYTES = 1 + 2  # as a byte, and as a number before
_ROW_BYTES = 2  # of a value of the readout, each of which is multiplied by itself


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
    n_weights = int(np.count_nonzero(network.recurrent)) + int(np.count_nonzero(network.readout_hidden))
    n_weights += stride * n_outputs * model.readout_size
    n_row_numbers = n_step_tables * GATES[model.cell] * model.gru_size
    n_row_numbers += stride * n_readout_tables * model.readout_size
    step_bytes = _NUMBER_BYTES * (n_weights + n_row_numbers)
    return Work(step_bytes / stride, step_bytes, n_weights / stride)


def _int8_work(network: FoldedNetwork) -> Work:
    stride, packed = network.config.model.samples_per_step, pack(network)
    arrays = packed.held
    n_subtrees = -(-network.config.signal.bits // SUBTREE_BITS)  # on the way to a code
    n_units, n_readout_units = arrays["gate_units"][:, 0].size, arrays["readout_units"].size
    sums_bytes = _SUMS * _NUMBER_BYTES * n_units
    step_bytes = arrays["blocks"].nbytes + _COLUMN_BYTES * len(arrays["blocks"])
    step_bytes += (
        arrays["gate_units"].nbytes + arrays["own_weights"].nbytes + arrays["step_tables"][:, 0].nbytes
    )
    step_bytes += sums_bytes + arrays["readout_blocks"].nbytes  # the sums that a frame starts with
    if packed.n_readout_blocks < QUAD_BLOCKS:  # else all are there, and no place is read
        step_bytes += arrays["readout_columns"].nbytes
    sample_bytes = (
        arrays["readout_tables"][:, 0].nbytes + 2 * arrays["readout_units"].nbytes
    )  # and the frame's
    sample_bytes += n_subtrees * sum(arrays[f"tree_{part}"][0].nbytes for part in ("blocks", "units", "bias"))
    # The sums and the state of a step, and the sums and values of a sample's readout, are written and read.
    step_bytes_twice = sums_bytes + _STATE_BYTES * n_units
    sample_bytes_twice = (_NUMBER_BYTES + _ROW_BYTES) * n_readout_units
    once = step_bytes + stride * sample_bytes
    twice = step_bytes_twice + stride * sample_bytes_twice
    n_tree_weights = n_subtrees * arrays["tree_blocks"][0].size
    n_weights = arrays["blocks"].size + arrays["readout_blocks"].size + stride * _ROW_BYTES * n_tree_weights
    return Work((once + 2 * twice) / stride, once + twice, n_weights / stride)


def bound_of(work: Work, engine: str, limits: Limits) -> Bound:
    """The least time of a sample."""
    macs_per_s = limits.int8_macs_per_s if engine == "int8" else limits.float32_macs_per_s
    read_us = 1e6 * work.bytes_per_sample / limits.read_bytes_per_s(work.working_set_bytes)
    multiply_us = 1e6 * work.macs_per_sample / macs_per_s
    limited_by = "reading" if read_us >= multiply_us else "multiplying"
    return Bound(read_us, multiply_us, max(read_us, multiply_us), limited_by)
