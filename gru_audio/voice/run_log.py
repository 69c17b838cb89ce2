"""A run's log, line by line, whatever a crash or a damaged disk has left of it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from gru_audio.documents import Document, DocumentError, parse_json
from gru_audio.files import open_file
from gru_audio.voice.run_folder import METRICS_FILE

_LONGEST_LINE = 1 << 20  # bytes of it


class _Line(Document):
    step: Annotated[int, Field(ge=0)]
    group: str


def read_log(run: Path) -> Iterator[dict[str, Any]]:
    """The lines of a run's log, each with at least its `step` and its `group`; without what a crash left unfinished.

    Raises:
        OSError: there is a log, and it cannot be read.
    """
    try:
        file = open_file(run / METRICS_FILE)
    except FileNotFoundError:
        return
    with file:
        while text := file.readline(_LONGEST_LINE):
            with contextlib.suppress(DocumentError):
                line = parse_json(text)
                _Line.of(line)
                yield line
