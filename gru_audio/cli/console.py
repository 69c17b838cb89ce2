"""What the commands share: consoles, progress bars and JSON. Results go to stdout, all else to stderr."""

import contextlib
import json
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from gru_audio.progress import Progress, ProgressCallback, ignore_progress

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress and no notes; errors remain.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]


def note(text: str, *, quiet: bool = False) -> None:
    """A line for the user on stderr."""
    if not quiet:
        typer.echo(text, err=True)


def print_json(result: Any) -> None:
    """The command's result as one JSON document on stdout."""
    typer.echo(json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False))


@contextlib.contextmanager
def progress_bar(description: str, *, quiet: bool = False) -> Iterator[ProgressCallback]:
    """A Rich progress bar on stderr, fed by the callback that this gives.

    Shows a bar, the share done, each report's figures, the time spent and the time left. Where stderr is
    not a terminal nothing is drawn.
    """
    if quiet:
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

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TextColumn("{task.fields[figures]}"),
        TimeElapsedColumn(),
        TextColumn("eta"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(description, total=None, figures="")

        def show(report: Progress) -> None:
            figures = " · ".join(f"{name} {value}" for name, value in report.figures.items())
            bar.update(task, completed=report.done, total=report.total, figures=figures)

        yield show
