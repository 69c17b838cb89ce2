"""What the figures were measured on."""

import os
import platform
from dataclasses import dataclass
from pathlib import Path

import joblib
import numba
import torch
from llvmlite import binding

from gru_audio import __version__


@dataclass(frozen=True)
class Machine:
    """Facts of a machine and its software.

    Attributes:
        cpu: the processor's name, as Linux tells it.
        cpu_kind: LLVM's name of its kind, such as `"znver4"`.
        cores: that this process may use.
        load: processes that wanted a core over the last minute, before anything was measured.
    """

    cpu: str
    cpu_kind: str
    cores: int
    load: float
    gru_audio: str
    python: str
    torch: str
    numba: str


def this_machine() -> Machine:
    """The facts of this one."""
    return Machine(
        cpu=_processor_name(),
        cpu_kind=binding.get_host_cpu_name(),
        cores=joblib.cpu_count(),
        load=os.getloadavg()[0],
        gru_audio=__version__,
        python=platform.python_version(),
        torch=torch.__version__,
        numba=numba.__version__,
    )


def _processor_name() -> str:
    facts = Path("/proc/cpuinfo")
    if facts.is_file():
        for line in facts.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
