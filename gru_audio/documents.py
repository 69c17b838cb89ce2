"""Documents from outside, JSON and TOML: read within bounds, and of the types that they should have.

Whatever a document holds, it is read or refused with one line. What is read has no more than so many bytes and so
many levels, its numbers are finite and its integers fit into 64 bits, so that nothing after this need think of it.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from gru_audio import text_files

_MOST_LEVELS = 32
_MOST_DIGITS = 18  # any integer of as many fits into 64 bits

_Model = TypeVar("_Model", bound="Document")


class DocumentError(ValueError):
    """A document cannot be read; the text is a clause that says why, and the caller says of which file."""


class Document(BaseModel):
    """A document's types; what is not named in it may be there, and is kept.

    A default that can change is copied each time; a factory in its place would take milliseconds to be looked at.
    """

    model_config = ConfigDict(
        extra="allow",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        defer_build=True,  # most commands read few kinds
    )

    @classmethod
    def of(cls: type[_Model], content: Any) -> _Model:
        """From what `parse_json` or `parse_toml` gave.

        Raises:
            DocumentError: an entry is missing, or of another type; it is named.
        """
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            where = ".".join(map(str, first["loc"]))
            message = f"{first['msg'][:1].lower()}{first['msg'][1:]}"
            raise DocumentError(f"{where}: {message}" if where else message) from error


def read_text(path: Path, largest_bytes: int = text_files.LARGEST_BYTES) -> str:
    """A file's text, as `text_files` reads it.

    Raises:
        OSError: it cannot be opened, or is no regular file.
        DocumentError: it is larger than that, or not text.
    """
    try:
        return text_files.read_text(path, largest_bytes)
    except UnicodeDecodeError as error:
        raise DocumentError(f"is not {error.encoding.upper()} at byte {error.start}") from error
    except ValueError as error:
        raise DocumentError(str(error)) from error


def parse_json(text: str | bytes, *, finite: bool = True) -> Any:
    """What a JSON text holds.

    Args:
        text: the document.
        finite: its numbers must be; otherwise, as in lists of which a part is read alone, they are what they are.

    Raises:
        DocumentError: not JSON, or past a bound.
    """
    real, constant = (_real, _no_constant) if finite else (float, float)
    try:
        content = json.loads(text, parse_int=_integer, parse_float=real, parse_constant=constant)
    except RecursionError as error:
        raise DocumentError(_TOO_DEEP) from error
    except DocumentError:
        raise
    except ValueError as error:
        raise DocumentError(f"is not JSON: {error}") from error
    _require_levels(content)
    return content


def parse_toml(text: str) -> dict[str, Any]:
    """What a TOML text holds; its numbers may be infinite, so that whoever knows the key's name refuses them.

    Raises:
        DocumentError: not TOML, or past a bound.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    if re.search(_LONG_KEY, text, re.ASCII):  # the parser's time grows with the square of a key's parts
        raise DocumentError(_TOO_DEEP)
    try:
        content: dict[str, Any] = tomllib.loads(text)
    except RecursionError as error:
        raise DocumentError(_TOO_DEEP) from error
    except ValueError as error:
        raise DocumentError(f"is not TOML: {error}") from error
    _require_levels(content)
    return content


_TOO_DEEP = f"is nested deeper than {_MOST_LEVELS} levels"
_LONG_KEY = rf"""(?<![\w-])(?:(?:[\w-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*')[ \t]*\.[ \t]*){{{_MOST_LEVELS}}}"""


def _integer(digits: str) -> int:
    if len(digits.lstrip("-")) > _MOST_DIGITS:
        raise DocumentError(f"holds an integer of {len(digits)} digits, {digits[:9]}…")
    return int(digits)


def _real(text: str) -> float:
    number = float(text)
    if number - number != 0:  # infinite, or not a number
        raise DocumentError(f"holds {text[:20]}, which is no finite number")
    return number


def _no_constant(name: str) -> float:
    raise DocumentError(f"holds {name}, which is no finite number")


def _require_levels(content: Any) -> None:
    """Make sure that lists and tables are not nested too deeply, and that TOML's integers have their bound."""
    level, depth = [content], 0
    while level:
        if depth > _MOST_LEVELS:
            raise DocumentError(_TOO_DEEP)
        inner: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                inner += value.values()
            elif isinstance(value, list):
                inner += value
            elif type(value) is int and abs(value) >= 10**_MOST_DIGITS:
                raise DocumentError(f"holds an integer past {_MOST_DIGITS} digits")
        level, depth = inner, depth + 1
