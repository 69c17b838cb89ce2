"""Whether a run fits into memory: asked before anything of it is made, and told in one line where it does not."""

import contextlib
import os
import sys
from collections.abc import Iterator

import torch

from gru_audio.config import GATES, Config
from gru_audio.errors import TrainingError

_COPIES = 5  # weights, gradients, the optimiser's two moments, the moving average
_FLOAT_BYTES = 4
_NO_MEMORY = ("allocate memory", "out of memory")  # torch's words, of the CPU's and of a GPU's
_MEND = "make model.gru_size, train.batch_size or train.crop_samples smaller"


def needed_bytes(config: Config) -> tuple[int, int]:
    """What a run takes at the very least: of its largest matrices, and of a step's recurrent states and gates."""
    model, gates = config.model, GATES[config.model.cell]
    size, conditioning = model.gru_size, model.conditioning_size
    n_weights = gates * size * (size + conditioning) + model.readout_size * size + 6 * conditioning**2
    n_samples = max(stage.batch_size * stage.crop_samples for stage in config.train.all_stages)
    n_states = n_samples // model.samples_per_step * size * (1 + gates)
    return _COPIES * _FLOAT_BYTES * n_weights, _FLOAT_BYTES * n_states


def require_memory(config: Config, device: torch.device, n_processes: int = 1) -> None:
    """Make sure that a machine, or a GPU, has the memory that a run takes at the very least.

    Args:
        config: the run's.
        device: where it computes.
        n_processes: that share each batch.

    Raises:
        TrainingError: it has less; both are named.
    """
    weights, step = needed_bytes(config)
    needed, there = weights + step // n_processes, memory_bytes(device)
    if there is not None and needed > there:
        stage = max(config.train.all_stages, key=lambda stage: stage.batch_size * stage.crop_samples)
        raise TrainingError(
            f"training needs {_gib(needed)} of memory at least, {_gib(weights)} for the network, the rest for a step "
            f"of {stage.batch_size} x {stage.crop_samples} samples; {device.type} has {_gib(there)}: {_MEND}"
        )


@contextlib.contextmanager
def memory_errors() -> Iterator[None]:
    """Tell in one line that memory ran out.

    Raises:
        TrainingError: in place of what torch and Python raise then.
    """
    try:
        yield
    except MemoryError as error:
        raise TrainingError(f"not enough memory to train; {_MEND}") from error
    except RuntimeError as error:  # CUDA's is one, too
        if not any(words in str(error) for words in _NO_MEMORY):
            raise
        raise TrainingError(f"not enough memory to train; {_MEND}") from error


def memory_bytes(device: torch.device) -> int | None:
    """What a GPU or the machine has in all; None where that is not known."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    if device.type != "cpu" or sys.platform == "win32" or "SC_PHYS_PAGES" not in os.sysconf_names:
        return None
    return int(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))


def _gib(n_bytes: int) -> str:
    return f"{n_bytes / 2**30:,.1f} GiB"
