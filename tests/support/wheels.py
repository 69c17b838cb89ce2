"""What must hold of a wheel and of the libraries in it, whichever system it is for."""

import re
import zipfile
from pathlib import Path

from gru_audio.native import instruction_sets
from hatch_build import NATIVE, PLATFORMS, PROCESSORS
from support.binaries import Binary, read_binary

FORMS = {".so": "ELF", ".dll": "PE", ".dylib": "Mach-O"}
OF_PYTHON = {"log", "memcpy", "memmove", "memset", "memcmp", "getauxval"}
"""On Linux, what the core takes from the C library and the one of mathematics, which Python brings: it can allocate
nothing. `getauxval` tells what the processor is."""

OF_MACOS = OF_PYTHON | {"bzero", "__bzero", "__memcpy_chk", "dyld_stub_binder"}

OF_WINDOWS = re.compile(r"kernel32\.dll|api-ms-win-crt-\w+-l1-1-0\.dll")
"""Parts of Windows 10 and later."""

_HEADER = re.compile(r"\b(gru_audio_\w+)\(")


def functions_of_the_interface() -> set[str]:
    """The names in gru_audio.h."""
    code = re.sub(r"//.*", "", (NATIVE / "gru_audio.h").read_text())
    return set(_HEADER.findall(code))


def require_library(path: Path, platform: str) -> Binary:
    """A library, which must be fit for a platform of `hatch_build.PLATFORMS`.

    Raises:
        AssertionError: it is not.
    """
    goal, found = PLATFORMS[platform], read_binary(path)
    assert (found.form, found.machine) == (FORMS[goal.suffix], goal.machine), path
    assert found.exported >= functions_of_the_interface(), path
    assert all(name.startswith("gru_") for name in found.exported), path
    assert not found.can_write_code, path
    if found.form == "ELF":
        assert not found.needed, path
        assert found.wanted <= OF_PYTHON, path
        assert not found.variables_bytes, path
    elif found.form == "PE":
        assert all(OF_WINDOWS.fullmatch(name) for name in found.needed), path
    else:
        assert found.needed == {"/usr/lib/libSystem.B.dylib"}, path
        assert found.wanted <= OF_MACOS, path
        assert found.is_signed or found.machine != "aarch64", path
        assert goal.tag.startswith(f"macosx_{found.system.replace('.', '_')}_"), path
    return found


def libraries_in(platform: str) -> set[str]:
    """The libraries of a platform's wheel, as paths in it."""
    goal = PLATFORMS[platform]
    assert list(PROCESSORS[goal.machine]) == list(instruction_sets.INSTRUCTION_SETS[goal.machine])
    return {f"gru_audio/native/lib/{platform}/{name}{goal.suffix}" for name in PROCESSORS[goal.machine]}


def require_wheel(wheel: Path, platform: str, folder: Path) -> list[Binary]:
    """The libraries of a wheel, which must be fit for a platform; they are put into a folder.

    Raises:
        AssertionError: it is not.
    """
    tag = PLATFORMS[platform].tag
    assert wheel.name.endswith(f"-py3-none-{tag}.whl"), wheel
    with zipfile.ZipFile(wheel) as archive:
        assert archive.testzip() is None
        names = set(archive.namelist())
        about = archive.read(next(name for name in names if name.endswith(".dist-info/WHEEL"))).decode()
        assert f"Tag: py3-none-{tag}\n" in about, wheel
        assert "Root-Is-Purelib: false\n" in about, wheel
        libraries = {name for name in names if "/lib/" in name}
        assert libraries == libraries_in(platform), wheel
        sources = {path.relative_to(NATIVE).as_posix() for path in NATIVE.rglob("*.[ch]")} - {"engine.c"}
        wanted = {f"gru_audio/native/{name}" for name in sources} | {"gru_audio/py.typed"}
        wanted |= {"gru_audio/configs/voice-16k.toml", "gru_audio/evaluation/page/panel.html"}
        assert wanted <= names, wanted - names
        return [require_library(Path(archive.extract(name, folder)), platform) for name in sorted(libraries)]
