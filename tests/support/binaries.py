"""What a compiled library says of itself, of Linux (ELF), Windows (PE) or macOS (Mach-O), all of 64 bits."""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ELF_MACHINES = {62: "x86_64", 183: "aarch64"}
PE_MACHINES = {0x8664: "x86_64", 0xAA64: "aarch64"}
MACH_MACHINES = {0x01000007: "x86_64", 0x0100000C: "aarch64"}


@dataclass(frozen=True)
class Binary:
    """A library.

    Attributes:
        form: ELF, PE or Mach-O.
        machine: as `hatch_build.PROCESSORS` calls it.
        exported: the names that it gives.
        wanted: the names that others must give it.
        needed: the libraries that it is linked to.
        is_signed: Mach-O: whether it has a signature, without which ARM's macOS loads nothing.
        system: Mach-O: the least version of macOS, such as 11.0.
        can_write_code: whether a part of it may be both written and executed.
        variables_bytes: ELF: how much it keeps in variables of its own.
    """

    form: str
    machine: str
    exported: frozenset[str]
    wanted: frozenset[str]
    needed: frozenset[str]
    is_signed: bool = False
    system: str = ""
    can_write_code: bool = False
    variables_bytes: int = 0


def read_binary(path: Path) -> Binary:
    """Read a library's head.

    Raises:
        ValueError: none of the three forms.
    """
    data = path.read_bytes()
    if data.startswith(b"\x7fELF\x02\x01"):
        return _elf(data)
    if data.startswith(b"MZ"):
        return _pe(data)
    if data.startswith(b"\xcf\xfa\xed\xfe"):
        return _mach_o(data)
    raise ValueError(f"{path}: begins with {data[:8]!r}")


def _at(data: bytes, form: str, place: int) -> tuple[Any, ...]:
    return struct.unpack_from(f"<{form}", data, place)


def _text(data: bytes, place: int) -> str:
    return data[place : data.index(b"\0", place)].decode()


def _elf(data: bytes) -> Binary:
    kind, machine = _at(data, "HH", 16)
    assert kind == 3, "a shared object"
    (segments,), n_segments = _at(data, "Q", 32), _at(data, "H", 56)[0]
    sections, (n_sections, of_names) = _at(data, "Q", 40)[0], _at(data, "HH", 60)
    section_names, variables_bytes = _at(data, "Q", sections + 64 * of_names + 24)[0], 0
    flags = [_at(data, "II", segments + 56 * i) for i in range(n_segments)]
    tables = {}  # by kind: where it is, how long, and the table that it points into
    for i in range(n_sections):
        place = sections + 64 * i
        (name, kind), (offset, size, link) = _at(data, "II", place), _at(data, "QQI", place + 24)
        if _text(data, section_names + name) in {".data", ".bss", ".tdata", ".tbss"}:
            variables_bytes += size
        tables[kind] = (offset, size, _at(data, "Q", sections + 64 * link + 24)[0])
    offset, size, names = tables[11]  # SHT_DYNSYM
    exported, wanted = set[str](), set[str]()
    for place in range(offset + 24, offset + size, 24):
        name, info, _, section = _at(data, "IBBH", place)
        if info >> 4:  # not a local one
            (exported if section else wanted).add(_text(data, names + name))
    offset, size, names = tables[6]  # SHT_DYNAMIC
    entries = [_at(data, "QQ", place) for place in range(offset, offset + size, 16)]
    needed = {_text(data, names + value) for tag, value in entries if tag == 1}
    return Binary(
        "ELF",
        ELF_MACHINES[machine],
        frozenset(exported),
        frozenset(wanted),
        frozenset(needed),
        can_write_code=any(kind == 1 and flag & 3 == 3 for kind, flag in flags),
        variables_bytes=variables_bytes,
    )


def _pe(data: bytes) -> Binary:
    (head,) = _at(data, "I", 60)
    assert data[head : head + 4] == b"PE\0\0"
    machine, n_sections = _at(data, "HH", head + 4)
    optional, characteristics = _at(data, "HH", head + 20)
    assert characteristics & 0x2000, "a DLL"
    assert _at(data, "H", head + 24) == (0x20B,), "of 64 bits"
    places = [
        (
            *_at(data, "IIII", head + 24 + optional + 40 * i + 8),
            *_at(data, "I", head + 24 + optional + 40 * i + 36),
        )
        for i in range(n_sections)
    ]  # of sections: size, address, bytes in the file, their place, flags

    def found(address: int) -> int:
        """Where in the file an address is."""
        return next(
            int(place + address - first)
            for size, first, n_bytes, place, _ in places
            if first <= address < first + max(size, n_bytes)
        )

    exports, imports = _at(data, "I", head + 24 + 112)[0], _at(data, "I", head + 24 + 120)[0]
    n_names, names = _at(data, "I", found(exports) + 24)[0], _at(data, "I", found(exports) + 32)[0]
    exported = {_text(data, found(_at(data, "I", found(names) + 4 * i)[0])) for i in range(n_names)}
    needed, wanted, place = set(), set(), found(imports)
    while (entry := _at(data, "IIIII", place)) != (0, 0, 0, 0, 0):
        needed.add(_text(data, found(entry[3])).lower())
        thunk = found(entry[0])
        while (address := _at(data, "Q", thunk)[0]) != 0:
            wanted.add(_text(data, found(address) + 2))
            thunk += 8
        place += 20
    return Binary(
        "PE",
        PE_MACHINES[machine],
        frozenset(exported),
        frozenset(wanted),
        frozenset(needed),
        can_write_code=any(flags & 0xA0000000 == 0xA0000000 for *_, flags in places),
    )


def _mach_o(data: bytes) -> Binary:
    _, machine, _, kind, n_commands = _at(data, "IIIII", 0)
    assert kind == 6, "a dynamic library"
    exported, wanted, needed = set[str](), set[str](), set[str]()
    is_signed, system, place = False, "", 32
    can_write_code = False
    for _ in range(n_commands):
        command, size = _at(data, "II", place)
        if command == 0x0C:  # LC_LOAD_DYLIB
            needed.add(_text(data, place + _at(data, "I", place + 8)[0]))
        elif command == 0x02:  # LC_SYMTAB
            symbols, n_symbols, names = _at(data, "III", place + 8)
            for i in range(n_symbols):
                name, kind = _at(data, "IB", symbols + 16 * i)
                if kind & 1 and not kind & 0xE0:  # external, and not for a debugger
                    (exported if kind & 0x0E else wanted).add(_text(data, names + name).removeprefix("_"))
            exported -= {"__dso_handle", "_mh_dylib_header"}  # the linker's own
        elif command == 0x1D:  # LC_CODE_SIGNATURE
            is_signed = _at(data, "I", place + 12)[0] > 0
        elif command == 0x32:  # LC_BUILD_VERSION
            platform, least = _at(data, "II", place + 8)
            system = f"{least >> 16}.{least >> 8 & 255}" if platform == 1 else ""
        elif command == 0x19:  # LC_SEGMENT_64
            can_write_code |= _at(data, "i", place + 60)[0] & 6 == 6
        place += size
    return Binary(
        "Mach-O",
        MACH_MACHINES[machine],
        frozenset(exported),
        frozenset(wanted),
        frozenset(needed),
        is_signed,
        system,
        can_write_code,
    )
