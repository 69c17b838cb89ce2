"""Loads the C core that fits this processor, and declares its functions.

One library file is built for each instruction set (hatch_build.py). The least one, which every processor runs, tells
which others this one can run; the best of these is loaded when the first function is called. The environment variable
GRU_AUDIO_INSTRUCTIONS names another one; GRU_AUDIO_LIBRARIES names another folder to take the files from, such as
one with a sanitizer's build.

    closed_loop = library.function("gru_closed_loop", [library.Floats, library.Int])
    closed_loop(array, 3)                   # with the library in use
    with library.using("avx2"): ...         # with another one, in tests

ctypes lets go of the interpreter's lock while a function runs.
"""

import contextlib
import ctypes
import os
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gru_audio.errors import ConfigError, GruAudioError

INSTRUCTION_SETS = {
    "x86_64": ("baseline", "avx2", "avxvnni", "avx512", "avx512bf16"),
    "aarch64": ("neon", "dotprod"),
}
"""By machine, the sets from least to best: set i is bit i of the C function `gru_instruction_sets`."""

INTERFACE = 0x1CB38D2B
"""The number of the declarations that this package is written for: INTERFACE of native/processor.c."""

VARIABLE = "GRU_AUDIO_INSTRUCTIONS"

_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}  # other names of the same
_CACHE_LINE = 64
_SUFFIXES = {"win32": ".dll", "darwin": ".dylib"}

Int = ctypes.c_int64
Float = ctypes.c_float
Double = ctypes.c_double


class Array(ctypes.c_void_p):
    """An argument or a struct's field that points to an array's first number; the array must lie in one piece."""

    dtype: np.dtype[Any]

    @classmethod
    def from_param(cls, array: Any) -> Any:
        """An array's address, as ctypes wants an argument.

        Raises:
            TypeError: it holds other numbers, or does not lie in one piece: our own mistake.
        """
        place = cls._place(array)
        return cls(array.ctypes.data) if place is None else ctypes.byref(place)

    @classmethod
    def address(cls, array: Any) -> int:
        """An array's address as a number; see `from_param`."""
        place = cls._place(array)
        return int(array.ctypes.data) if place is None else ctypes.addressof(place)

    @classmethod
    def _place(cls, array: Any) -> Any:
        """A view of the array's memory, a third of the time that array.ctypes takes; None if it may only be read."""
        if array.dtype is not cls.dtype and array.dtype != cls.dtype:
            raise TypeError(f"{cls.__name__}: an array of {array.dtype} was given")
        try:
            return _Place.from_buffer(array)
        except TypeError:
            if array.flags.writeable or not array.flags.c_contiguous:
                raise
            return None


_Place = ctypes.c_char * 0


class Floats(Array):
    """float32."""

    dtype = np.dtype(np.float32)


class Doubles(Array):
    """float64."""

    dtype = np.dtype(np.float64)


class Complexes(Array):
    """complex64: pairs of float32, the real part first."""

    dtype = np.dtype(np.complex64)


class Bytes(Array):
    """uint8."""

    dtype = np.dtype(np.uint8)


class SignedBytes(Array):
    """int8."""

    dtype = np.dtype(np.int8)


class Int16s(Array):
    """int16."""

    dtype = np.dtype(np.int16)


class Bf16s(Array):
    """uint16, the bits of bf16 numbers."""

    dtype = np.dtype(np.uint16)


class Uint16s(Array):
    """uint16."""

    dtype = np.dtype(np.uint16)


class Int32s(Array):
    """int32."""

    dtype = np.dtype(np.int32)


class Int64s(Array):
    """int64."""

    dtype = np.dtype(np.int64)


class Bools(Array):
    """bool, a byte each."""

    dtype = np.dtype(np.bool_)


class Struct(ctypes.Structure):
    """A C struct of numbers and pointers to arrays, made from keywords; it holds on to its arrays.

    A subclass lists `_fields_` in the order of the C struct; a pointer's type is one of the classes above.
    """

    def __init__(self, **values: Any) -> None:
        """Fill it in; every field must be given.

        Raises:
            TypeError: a field is missing or unknown, or an array is of the wrong kind: our own mistake.
        """
        super().__init__()
        self.held: dict[str, Any] = {}
        arrays = _arrays_of(type(self))
        if arrays.keys() != values.keys():
            raise TypeError(f"{type(self).__name__}: fields {sorted(arrays.keys() ^ values.keys())}")
        for name, value in values.items():
            array = arrays[name]
            if array is None:
                setattr(self, name, value)
            else:
                self.held[name] = value
                setattr(self, name, array.address(value))


@cache
def _arrays_of(struct: type[Struct]) -> dict[str, type[Array] | None]:
    """By field, the kind of array that it points to; None for a number."""
    kinds: dict[str, Any] = dict(struct._fields_)  # type: ignore[arg-type]
    return {
        name: kind if isinstance(kind, type) and issubclass(kind, Array) else None
        for name, kind in kinds.items()
    }


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


def function(name: str, arguments: Sequence[Any], result: Any = None) -> Callable[..., Any]:
    """A function of the library in use when it is called; nothing is loaded before.

    Args:
        name: the C name.
        arguments: types of this module or of ctypes; `ctypes.POINTER(struct)` or a Struct for a pointer to one.
        result: likewise; None for nothing.
    """
    declared: dict[str, Callable[..., Any]] = {}
    types = [ctypes.POINTER(kind) if issubclass(kind, ctypes.Structure) else kind for kind in arguments]

    def call(*given: Any) -> Any:
        try:
            found = declared[_in_use[-1]]
        except (KeyError, IndexError):
            found = declared[instructions()] = load(instructions()).function(name, types, result)
        return found(*given)

    return call


def aligned(size: int, dtype: npt.DTypeLike = np.float32) -> npt.NDArray[Any]:
    """Memory for numbers that begins where a cache line does, as vectors are quickest; what is in it is anything."""
    bytes_ = np.empty(size * np.dtype(dtype).itemsize + _CACHE_LINE, np.uint8)
    first = -bytes_.ctypes.data % _CACHE_LINE
    return bytes_[first : first + size * np.dtype(dtype).itemsize].view(dtype)


def instructions() -> str:
    """The instruction set in use.

    Raises:
        ConfigError: GRU_AUDIO_INSTRUCTIONS names none that this processor has.
        GruAudioError: the package has no library for this machine.
    """
    if not _in_use:
        _in_use.append(_chosen())
    return _in_use[-1]


@contextlib.contextmanager
def using(name: str) -> Iterator[None]:
    """Use another instruction set for a while, in all threads: for tests."""
    instructions()
    load(name)
    _in_use.append(name)
    try:
        yield
    finally:
        _in_use.pop()


def supported() -> tuple[str, ...]:
    """The instruction sets that this processor has and the package was built for, from least to best."""
    names = INSTRUCTION_SETS.get(_machine(), ())
    if not names or not _path(names[0]).exists():
        raise GruAudioError(
            f"{_folder()}: no compiled core for {sys.platform} on {_machine()}; install a wheel for this machine, or "
            "run `pip install .` in a clone"
        )
    bits = _asked(Library(_path(names[0]), names[0]), "gru_instruction_sets")
    if bits is None:
        raise _of_other_sources(names[0])
    return tuple(name for i, name in enumerate(names) if bits >> i & 1 and _path(name).exists())


@cache
def load(name: str) -> Library:
    """The library of an instruction set, whether the processor has it or not.

    Raises:
        GruAudioError: compiled from other sources than this package's, whose structs may differ: it would crash.
    """
    library = Library(_path(name), name)
    if _asked(library, "gru_interface") != INTERFACE:
        raise _of_other_sources(name)
    return library


def _asked(library: Library, function: str) -> int | None:
    """A number that a library tells; None from one that has no such function, of another time."""
    try:
        return int(library.function(function, [], Int)())
    except AttributeError:
        return None


def _of_other_sources(name: str) -> GruAudioError:
    return GruAudioError(
        f"{_path(name)}: compiled from other sources than this package's; run `python hatch_build.py` in the "
        "clone, or install gru-audio again"
    )


_in_use: list[str] = []  # the last one is; a list, as `using` puts one on the other


def _chosen() -> str:
    sets, wanted = supported(), os.environ.get(VARIABLE)
    if wanted and wanted not in sets:
        raise ConfigError(f"{VARIABLE}={wanted}: this machine has {', '.join(sets)}")
    return wanted or sets[-1]


def _path(name: str) -> Path:
    return _folder() / f"{name}{_SUFFIXES.get(sys.platform, '.so')}"


def _folder() -> Path:
    here = Path(__file__).parent / "lib" / f"{sys.platform}-{_machine()}"
    return Path(os.environ.get("GRU_AUDIO_LIBRARIES") or here)


def _machine() -> str:
    machine = platform.machine().lower()
    return _MACHINES.get(machine, machine)
