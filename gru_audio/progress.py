"""How the library tells whoever called it how far long work has come. It never prints."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Progress:
    """One report of long work.

    Attributes:
        done: how much is finished, in the work's own unit.
        total: how much there is in all, in the same unit.
        figures: what is worth showing beside the bar, in order: name to ready text, such as
            `{"loss": "3.214", "speed": "41.3 x real time"}`.
    """

    done: float
    total: float
    figures: Mapping[str, str] = field(default_factory=dict)


ProgressCallback = Callable[[Progress], None]


def ignore_progress(report: Progress) -> None:
    """The callback of a caller who does not want to know."""


NoteCallback = Callable[[str], None]
"""Told what a user should know at once, in one line."""


def ignore_note(line: str) -> None:
    """The callback of a caller who does not want to know."""
