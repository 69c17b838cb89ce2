"""Names and other text from outside, as they may be shown to a user or become part of a file's name."""

import os
import re
from pathlib import Path

_LONGEST = 255
"""Bytes of a file's name, on every file system that is in use; what is longer is no name, and is shown shortened."""

_BREAK = re.compile(r"\s*[\t-\r\x1c-\x1e\x85\u2028\u2029]+\s*")
_TOO_LONG = re.compile(rf"[^/\s]{{{_LONGEST + 1},}}")


def shown(text: object) -> str:
    r"""Text on one line, without anything that a terminal acts on; whatever is printed goes through this.

    Line breaks become spaces, bytes that are not UTF-8 and characters that cannot be printed become escapes such as
    `\x1b`, and a word longer than any file's name is cut in its middle.
    """
    line = _BREAK.sub(" ", str(text)).strip()
    line = _TOO_LONG.sub(lambda word: f"{word[0][:100]}…{word[0][-100:]}", line)
    return line if line.isprintable() else "".join(map(_escaped, line))


def name_part(name: str, n_bytes: int = 100) -> str:
    """A name as a part of a file's name: at most `n_bytes` of UTF-8, and nothing that a path or terminal acts on."""
    plain = shown(name).replace("/", "_")
    return plain.encode()[:n_bytes].decode(errors="ignore")


def readable(path: str | Path) -> str:
    """A path as text that can be stored in UTF-8, whatever bytes its name has."""
    return os.fsencode(path).decode("utf-8", errors="backslashreplace")


def _escaped(letter: str) -> str:
    """A character as it may be printed; a lone surrogate is how Python holds a byte that is not UTF-8."""
    code = ord(letter)
    if letter.isprintable():
        return letter
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
