"""Which instruction sets this processor has, and the library file of each.

One file is built for each set (hatch_build.py). The least one, which every processor runs, tells which others this one
can run. The environment variable GRU_AUDIO_LIBRARIES names another folder to take the files from, such as one with a
sanitizer's build.
"""

import ctypes
import os
import platform
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from gru_audio.errors import GruAudioError

INSTRUCTION_SETS = {
    "x86_64": ("baseline", "avx2", "avxvnni", "avx512", "avx512bf16"),
    "aarch64": ("neon", "dotprod"),
}
"""By machine, the sets from least to best: set i is bit i of the C function `gru_instruction_sets`."""

INTERFACE = 0x059F1DEB
"""The number of the declarations that this package is written for: INTERFACE of native/processor.c."""

_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}  # other names of the same
_SUFFIXES = {"win32": ".dll", "darwin": ".dylib"}


class Library:
    """One instruction set's functions."""

    def __init__(self, path: Path, instructions: str) -> None:
        """Load a file.

        Raises:
            GruAudioError: it is damaged, or of another system.
        """
        self.path, self.instructions = path, instructions
        try:
            self._code = ctypes.CDLL(str(path))
        except OSError as error:
            raise GruAudioError(
                f"{path}: cannot be loaded ({str(error).removeprefix(f'{path}: ')}); install gru-audio again"
            ) from error

    def function(self, name: str, arguments: Sequence[Any], result: Any = None) -> Callable[..., Any]:
        """A function by its C name, the types of its arguments and of its result."""
        found = self._code[name]  # a new object each time, so that declarations do not meet
        found.argtypes, found.restype = arguments, result
        return found


def supported() -> tuple[str, ...]:
    """The instruction sets that this processor has and the package was built for, from least to best."""
    names = INSTRUCTION_SETS.get(_machine(), ())
    if not names or not path_of(names[0]).exists():
        raise GruAudioError(
            f"{_folder()}: no compiled core for {sys.platform} on {_machine()}; install a wheel for this machine, or "
            "run `pip install .` in a clone"
        )
    bits = _asked(Library(path_of(names[0]), names[0]), "gru_instruction_sets")
    if bits is None:
        raise _of_other_sources(names[0])
    return tuple(name for i, name in enumerate(names) if bits >> i & 1 and path_of(name).exists())


@cache
def load(name: str) -> Library:
    """The library of an instruction set, whether the processor has it or not.

    Raises:
        GruAudioError: compiled from other sources than this package's, whose structs may differ: it would crash.
    """
    library = Library(path_of(name), name)
    if _asked(library, "gru_interface") != INTERFACE:
        raise _of_other_sources(name)
    return library


def _asked(library: Library, function: str) -> int | None:
    """A number that a library tells; None from one that has no such function, of another time."""
    try:
        return int(library.function(function, [], ctypes.c_int64)())
    except AttributeError:
        return None


def _of_other_sources(name: str) -> GruAudioError:
    return GruAudioError(
        f"{path_of(name)}: compiled from other sources than this package's; run `python hatch_build.py` in the "
        "clone, or install gru-audio again"
    )


def path_of(name: str) -> Path:
    """The library file of an instruction set, whether it is there or not."""
    return _folder() / f"{name}{_SUFFIXES.get(sys.platform, '.so')}"


def _folder() -> Path:
    here = Path(__file__).parent / "lib" / f"{sys.platform}-{_machine()}"
    return Path(os.environ.get("GRU_AUDIO_LIBRARIES") or here)


def _machine() -> str:
    machine = platform.machine().lower()
    return _MACHINES.get(machine, machine)
