"""The functions of the C core, as Python calls them.

The file of the best instruction set that this processor has is loaded when the first function is called; see
instruction_sets.py. The environment variable GRU_AUDIO_INSTRUCTIONS names another set.

    closed_loop = library.function("gru_closed_loop", [library.Floats, library.Int])
    closed_loop(array, 3)                   # with the library in use
    with library.using("avx2"): ...         # with another one, in tests

ctypes lets go of the interpreter's lock while a function runs.
"""

import contextlib
import ctypes
import os
import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from gru_audio.errors import ConfigError
from gru_audio.native.instruction_sets import load, supported

VARIABLE = "GRU_AUDIO_INSTRUCTIONS"

_CACHE_LINE = 64

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

    def __reduce__(self) -> NoReturn:
        """Refuse to be copied or pickled: the addresses would stay those of this struct's arrays, in this process."""
        raise TypeError(f"{type(self).__name__} holds addresses, and can neither be copied nor pickled")


@cache
def _arrays_of(struct: type[Struct]) -> dict[str, type[Array] | None]:
    """By field, the kind of array that it points to; None for a number."""
    kinds: dict[str, Any] = dict(struct._fields_)  # type: ignore[arg-type]
    return {
        name: kind if isinstance(kind, type) and issubclass(kind, Array) else None
        for name, kind in kinds.items()
    }


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
        try:
            return found(*given)
        except ctypes.ArgumentError as error:
            raise _signal_behind(error) or error from None

    return call


def _signal_behind(error: ctypes.ArgumentError) -> KeyboardInterrupt | None:
    """The signal that came while an argument was converted, of which ctypes keeps the text alone."""
    found = re.fullmatch(r"argument \d+:.*KeyboardInterrupt\W*(\d*)", str(error))
    return None if found is None else KeyboardInterrupt(*map(int, filter(None, found.groups())))


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


_in_use: list[str] = []  # the last one is; a list, as `using` puts one on the other


def _chosen() -> str:
    sets, wanted = supported(), os.environ.get(VARIABLE)
    if wanted and wanted not in sets:
        raise ConfigError(f"{VARIABLE}={wanted}: this machine has {', '.join(sets)}")
    return wanted or sets[-1]
