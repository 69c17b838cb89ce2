"""What the commands share: consoles, progress bars and JSON. Results go to stdout, all else to stderr."""

import contextlib
import gc
import json
import math
import os
import sys
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import typer

from gru_audio.names import shown
from gru_audio.progress import Progress, ProgressCallback, ignore_progress

_STDERR = 2
_NARROWEST = 20
"""So many letters of a value side by side can be read."""


def say(text: str) -> None:
    """A line of the result on stdout."""
    _echo(shown(text))


def note(text: str, *, quiet: bool = False) -> None:
    """A line for the user on stderr."""
    if not quiet:
        _echo(shown(text), err=True)


def error_line(text: str) -> None:
    """An error on stderr, in one line."""
    _echo(f"error: {shown(text)}", err=True)


def print_json(result: Any) -> None:
    """The command's result as one JSON document on stdout, in which a name's odd characters are JSON's own escapes."""
    text = json.dumps(_strict(result), indent=2, ensure_ascii=False, allow_nan=False)
    _echo("".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text))


def print_rows(rows: Mapping[str, str]) -> None:
    """Names and values in two columns on stdout; bare text in a pipe or on a narrow terminal, one line for each."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    lines = {name: shown(value) for name, value in rows.items()}
    console, width = Console(highlight=False), max(map(len, lines))
    if not console.is_terminal or console.width < width + _NARROWEST:
        _echo("\n".join(f"{name:<{width}}  {value}" for name, value in lines.items()))
        return
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in lines.items():
        table.add_row(name, Text(value))
    console.print(table)


def _echo(text: str, *, err: bool = False) -> None:
    """Print text, with escapes for what the terminal's encoding has no letters for.

    What a full stderr does not take stays unsaid: it ends no work, and changes no exit code.
    """
    encoding = getattr(sys.stderr if err else sys.stdout, "encoding", None) or "utf-8"
    try:
        typer.echo(text.encode(encoding, errors="backslashreplace").decode(encoding), err=err)
    except OSError:
        if not err:
            raise
        let_go(_STDERR)


def let_go(descriptor: int) -> None:
    """Leave unsaid what a stream could not write; else Python would try again at its exit."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, descriptor)
    os.close(null)


def _strict(value: Any) -> Any:
    """A result with null for each number that JSON cannot hold."""
    if isinstance(value, Mapping):
        return {name: _strict(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextlib.contextmanager
def made_to_stay() -> Iterator[None]:
    """For imports and a voice, which live until the process ends.

    The garbage collector does not run meanwhile, and never looks at them again, which would take a tenth of a short
    command's time.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@contextlib.contextmanager
def workers(cluster: str | None, jobs: int | None) -> Iterator[None]:
    """A cluster's workers for what is mapped within, where its address is given; else this machine's processes."""
    if cluster is None:
        yield
        return
    if jobs is not None:
        raise typer.BadParameter("a cluster has workers of its own; give one of the two", param_hint="--jobs")
    from gru_audio.cluster import on_cluster

    with on_cluster(cluster, note):
        yield


@contextlib.contextmanager
def progress_bar(description: str, *, quiet: bool = False) -> Iterator[ProgressCallback]:
    """A Rich progress bar on stderr, fed by the callback that this gives.

    Shows a bar, the share done, each report's figures, the time spent and the time left. Where stderr is not a
    terminal nothing is drawn, and Rich is not imported.
    """
    if quiet or sys.stderr is None or not sys.stderr.isatty():
        yield ignore_progress
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TextColumn("{task.fields[figures]}", markup=False),
        TimeElapsedColumn(),
        TextColumn("eta"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(description, total=None, figures="")

        def show(report: Progress) -> None:
            figures = " · ".join(f"{name} {value}" for name, value in report.figures.items())
            bar.update(task, completed=report.done, total=report.total, figures=figures)

        yield show


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Text to the left, numbers to the right; bare text, one line for each row.

    On a terminal that is too narrow for all columns the others follow below, beside the first column again.
    """
    from rich.console import Console
    from rich.text import Text

    rows = [[shown(cell) for cell in row] for row in rows]
    columns = [list(column) for column in zip(head, *rows, strict=True)]
    padded = [_padded(cells) for cells in columns]
    widths = [_width(cells[0]) for cells in padded]
    console = Console(highlight=False)
    room = console.width if console.is_terminal else sum(widths) + len(widths) * len(_GAP)
    for group in _groups(widths, room):
        first, *lines = [_GAP.join(cells).rstrip() for cells in zip(*(padded[i] for i in group), strict=True)]
        if console.is_terminal:
            console.print(Text(f"\n{first}", style="bold"), soft_wrap=True)
            _echo("\n".join(["-" * _width(first), *lines]))
        else:
            _echo("\n" + "\n".join([first, *lines]))


_GAP = "  "


def _padded(cells: Sequence[str]) -> list[str]:
    """A column's cells, as wide as the widest; those below the head to the right where all are numbers."""
    width = max(map(_width, cells))
    if all(cell == "-" or cell.removeprefix("-")[:1].isdigit() for cell in cells[1:]):
        return [" " * (width - _width(cell)) + cell for cell in cells]
    return [cell + " " * (width - _width(cell)) for cell in cells]


def _width(text: str) -> int:
    """How many letters of a terminal's a text takes."""
    return sum(
        0 if unicodedata.combining(letter) else 1 + (unicodedata.east_asian_width(letter) in "WF")
        for letter in text
    )


def _groups(widths: Sequence[int], room: int) -> Iterator[list[int]]:
    """The columns that stand side by side: the first, and of the others as many as there is room for, at least one."""
    group, taken = [0], widths[0]
    for i, width in enumerate(widths[1:], start=1):
        if len(group) > 1 and taken + len(_GAP) + width > room:
            yield group
            group, taken = [0], widths[0]
        group.append(i)
        taken += len(_GAP) + width
    yield group
