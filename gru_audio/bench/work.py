"""What a sample asks of the machine, counted from the network, and how long that takes at the least.

Counted are the recurrent layer, the readout, the tree's nodes on the way to a code, and the table rows of the
codes. Weights that pruning made zero are not counted, whether an engine leaves them out or not, nor is the work
of a frame, which falls to its 200 or so samples. Shapes: see model.py; G is the number of the cell's gates.
"""

from dataclasses import dataclass

import numpy as np

from gru_audio.bench.limits import Limits
from gru_audio.synthesis.folding import GATES, fold
from gru_audio.voice import Voice

_NUMBER_BYTES = {"float32": (4, 4), "int8": (1, 2), "torch": (4, 4)}
"""Engine to bytes of a weight, and of a number in a table row."""


@dataclass(frozen=True)
class Work:
    """What a sample needs.

    Attributes:
        bytes_per_sample: of weights and table rows, read once each.
        working_set_bytes: what a recurrent step reads, for its S samples together.
        macs_per_sample: multiply-adds of the products.
    """

    bytes_per_sample: float
    working_set_bytes: int
    macs_per_sample: float


@dataclass(frozen=True)
class Bound:
    """The least time that a sample's work takes on one core.

    Attributes:
        read_us: to read its bytes, if all that a step reads is in the smallest cache that can hold it.
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
    config, network = voice.config, fold(voice)
    model, (n_step_tables, n_readout_tables) = config.model, config.table_counts
    stride, n_nodes = model.samples_per_step, config.signal.bits
    n_outputs = n_nodes if model.output == "tree" else config.n_outputs
    n_weights = int(np.count_nonzero(network.recurrent)) + network.readout_hidden.size
    n_weights += stride * n_outputs * model.readout_size
    n_row_numbers = n_step_tables * GATES[model.cell] * model.gru_size
    n_row_numbers += stride * n_readout_tables * model.readout_size
    weight_bytes, row_bytes = _NUMBER_BYTES[engine]
    step_bytes = n_weights * weight_bytes + n_row_numbers * row_bytes
    return Work(step_bytes / stride, step_bytes, n_weights / stride)


def bound_of(work: Work, engine: str, limits: Limits) -> Bound:
    """The least time of a sample."""
    macs_per_s = limits.int8_macs_per_s if engine == "int8" else limits.float32_macs_per_s
    read_us = 1e6 * work.bytes_per_sample / limits.read_bytes_per_s(work.working_set_bytes)
    multiply_us = 1e6 * work.macs_per_sample / macs_per_s
    limited_by = "reading" if read_us >= multiply_us else "multiplying"
    return Bound(read_us, multiply_us, max(read_us, multiply_us), limited_by)
