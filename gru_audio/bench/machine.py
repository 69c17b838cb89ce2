"""What the figures were measured on."""

import os
import platform
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import joblib

from gru_audio import __version__
from gru_audio.native import library


@dataclass(frozen=True)
class Machine:
    """Facts of a machine and its software.

    Attributes:
        cpu: the processor's name, as Linux tells it.
        cores: that this process may use.
        load: processes that wanted a core over the last minute, before anything was measured;
            None where the system does not tell, as Windows.
        torch: its version; None where it is not installed.
        instructions: the set that the compiled core uses, such as `"avx512"`; see native/instruction_sets.py.
    """

    cpu: str
    cores: int
    load: float | None
    gru_audio: str
    python: str
    torch: str | None
    instructions: str


def this_machine() -> Machine:
    """The facts of this one."""
    return Machine(
        cpu=_processor_name(),
        cores=joblib.cpu_count(),
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        gru_audio=__version__,
        python=platform.python_version(),
        torch=_version("torch"),
        instructions=library.instructions(),
    )


def _version(package: str) -> str | None:
    """A package's version, without importing it."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor_name() -> str:
    facts = Path("/proc/cpuinfo")
    if facts.is_file():
        for line in facts.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
