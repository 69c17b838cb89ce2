"""Writes settings.md from the docstrings and the types of the settings: `python docs/settings.py`."""

import ast
import inspect
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from gru_audio import config

PAGE = Path(__file__).parent / "settings.md"
HEAD = """# Settings

A TOML file with five tables, every one optional: `gru-audio prep -c FILE`, `gru-audio train -c FILE`. What a file
leaves out has the default below. `--set table.key=value` changes one setting; a misspelt key is an error that suggests
the right one. The [presets](../configs) are such files: `tiny`, `voice-16k`, `universal-16k`, `ljspeech-22k`,
`voice-24k`, `studio-48k`.

This page is generated from `gru_audio/config/` by `python docs/settings.py`.
"""
BOUNDS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}


def page() -> str:
    """The whole page."""
    tables = [section(f"`[{name}]`", table) for name, table in sections().items()]
    return "\n".join([HEAD, *tables, section("`[[train.stages]]`", config.Stage)])


def sections() -> dict[str, type[BaseModel]]:
    """The tables of a config, by name."""
    return {
        name: field.annotation
        for name, field in config.Config.model_fields.items()
        if inspect.isclass(field.annotation) and issubclass(field.annotation, BaseModel)
    }


def section(title: str, table: type[BaseModel]) -> str:
    """A heading, what the table is, and a row for each key."""
    told = meanings(table)
    rows = [
        f"| `{name}` | {values(field)} | {default(field)} | {told.get(name, '')} |"
        for name, field in table.model_fields.items()
    ]
    about = " ".join((inspect.getdoc(table) or "").split())
    return "\n".join(
        [f"## {title}", "", about, "", "| key | values | default | meaning |", "|---|---|---|---|", *rows, ""]
    )


def meanings(table: type[BaseModel]) -> dict[str, str]:
    """The string under each key of a table's class, by the key."""
    body = ast.parse(inspect.getsource(table)).body[0].body  # type: ignore[attr-defined]
    return {
        key.target.id: " ".join(str(text.value.value).split()).replace("|", "\\|")
        for key, text in pairwise(body)
        if isinstance(key, ast.AnnAssign)
        and isinstance(text, ast.Expr)
        and isinstance(key.target, ast.Name)
        and isinstance(text.value, ast.Constant)
    }


def values(field: FieldInfo) -> str:
    """What a key may be."""
    kind = field.annotation
    if get_origin(kind) is Literal:
        return ", ".join(f"`{toml(value)}`" for value in get_args(kind))
    if get_origin(kind) is tuple:
        inner = get_args(kind)
        return "a list of tables" if inner[-1] is Ellipsis else f"{len(inner)} numbers"
    bounds = [
        f"{sign} {getattr(part, name):g}"
        for part in field.metadata
        for name, sign in BOUNDS.items()
        if getattr(part, name, None) is not None
    ]
    names: dict[Any, str] = {int: "integer", float: "number", bool: "true or false"}
    return " ".join([names.get(kind, "text"), ", ".join(bounds)]).strip()


def default(field: FieldInfo) -> str:
    """The default as TOML has it."""
    return "needed" if field.is_required() else f"`{toml(field.default)}`"


def toml(value: Any) -> str:
    """A value as TOML writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple):
        return f"[{', '.join(map(toml, value))}]"
    return f"{value:_}" if isinstance(value, int) else f"{value:g}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
