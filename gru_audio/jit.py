"""How this package compiles its loops with numba, and how the machine code is kept on disk.

numba's own files go by one source file each: code that came in from another module by inlining goes stale unseen,
a damaged file is an error, and processes that start together can mix up their files. So the files are this module's;
numba chooses the folder, and packs and unpacks the code.
"""

import contextlib
import hashlib
import inspect
import pickle
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import llvmlite
import numba
from numba.core import event
from numba.core.caching import FunctionCache
from numba.core.serialize import dumps

from gru_audio.compiling import tell
from gru_audio.errors import OutputError
from gru_audio.files import atomic_path

_Function = TypeVar("_Function", bound=Callable[..., Any])

_PACKAGE = Path(__file__).parent
_IMPORT = re.compile(rf"^from ({_PACKAGE.name}[\w.]*) import (\([^)]*\)|.*)", re.MULTILINE)
_SUFFIX = ".code"
_KEY_LETTERS = 20


def compiled(**options: Any) -> Callable[[_Function], _Function]:
    """A decorator: compile a loop that needs no interpreter's lock, and keep the machine code on disk.

    It is kept in numba's place, beside the source or in the user's cache folder; where neither can be written, as
    for a user without a home in a container, the loop is compiled anew in each process.

    Args:
        options: of numba.njit, such as `fastmath`.
    """

    def decorate(function: _Function) -> _Function:
        dispatcher: Any = numba.njit(nogil=True, **options)(function)
        # RuntimeError: numba found no folder; OSError: there is no source to go by.
        with contextlib.suppress(RuntimeError, OSError):
            if dispatcher is not function:  # as it is with NUMBA_DISABLE_JIT
                dispatcher._cache = _cache_of(function)
        return cast("_Function", dispatcher)

    return decorate


def sources_of(path: Path) -> frozenset[Path]:
    """A source file, and those of this package that it imports at its head, and they in turn."""
    found, waiting = {path}, [path]
    while waiting:
        new = _imported(waiting.pop()) - found
        found |= new
        waiting += new
    return frozenset(found)


class _CodeFiles:
    """Machine code on disk: a file for each function, signature, processor, numba and state of the sources.

    It begins with the digest of the rest, so that a damaged file counts as none.
    """

    def __init__(self, folder: Path, function: str, sources: str) -> None:
        self._folder, self._function, self._sources = folder, function, sources

    def load(self, key: Any) -> Any:
        """The code for a signature and processor, or None."""
        try:
            stored = self._path(key).read_bytes()
        except OSError:
            return None
        digest, code = stored[: hashlib.sha256().digest_size], stored[hashlib.sha256().digest_size :]
        return pickle.loads(code) if hashlib.sha256(code).digest() == digest else None

    def save(self, key: Any, data: Any) -> None:
        """Keep code, and drop what older sources of the module left; without room it is compiled again next time."""
        code, path = dumps(data), self._path(key)
        with contextlib.suppress(OutputError, OSError):
            with atomic_path(path) as temporary:
                temporary.write_bytes(hashlib.sha256(code).digest() + code)
            module = self._function.partition(".")[0]
            for other in self._folder.glob(f"{module}.*{_SUFFIX}"):
                if f".{self._sources}." not in other.name:
                    other.unlink(missing_ok=True)

    def _path(self, key: Any) -> Path:
        versions = numba.__version__, llvmlite.__version__
        name = hashlib.sha256(repr((key, versions)).encode()).hexdigest()[:_KEY_LETTERS]
        return self._folder / f"{self._function}.{self._sources}.{name}{_SUFFIX}"


def _cache_of(function: Callable[..., Any]) -> Any:
    """A function's cache as numba makes it, but with our files."""
    made: Any = FunctionCache(function)
    sources = _digest(Path(inspect.getfile(function)))
    made._cache_file = _CodeFiles(Path(made.cache_path), made._impl.filename_base, sources)
    return made


@cache
def _digest(path: Path) -> str:
    """Of all that a module's compiled code may hold; taken when it is imported, so before the files can change."""
    whole = hashlib.sha256()
    for source in sorted(sources_of(path)):
        whole.update(hashlib.sha256(_text(source).encode()).digest())
    return whole.hexdigest()[:_KEY_LETTERS]


@cache
def _imported(path: Path) -> set[Path]:
    """The files of this package that a file imports at its head."""
    found = set()
    for module, names in _IMPORT.findall(_text(path)):
        place = _PACKAGE.parent.joinpath(*module.split("."))
        # What follows may be names in the module, or modules in the package.
        for candidate in (place, *(place / name for name in re.findall(r"\w+", names))):
            found |= {
                file for file in (candidate.with_suffix(".py"), candidate / "__init__.py") if file.is_file()
            }
    return found


@cache
def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


_under_way: list[Any] = []  # numba's lock lets one thread compile at a time


def _compiling_begins(told_of: Any) -> None:
    dispatcher = told_of.data["dispatcher"]
    if dispatcher.py_func.__module__.startswith(f"{_PACKAGE.name}."):
        _under_way.append(dispatcher)
        if len(_under_way) == 1:  # what it calls is compiled in its course
            tell(True)


def _compiling_ends(told_of: Any) -> None:
    if told_of.data["dispatcher"] in _under_way:
        _under_way.remove(told_of.data["dispatcher"])
        if not _under_way:
            tell(False)


_listener: Any = event.RecordingListener()  # numba takes nothing but a listener of its own
_listener.on_start, _listener.on_end = _compiling_begins, _compiling_ends
event.register("numba:compile", _listener)
