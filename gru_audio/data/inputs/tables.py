"""Listings as tables: CSV, TSV, and the forms of LJSpeech and piper with bars; each line names a recording.

A first line of column names says which column is what. Without one the first column is the recording, and the
second is the speaker where it looks like one: short, without spaces, and the same in several lines.
"""

import csv
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from gru_audio.errors import DatasetError
from gru_audio.text_files import read_lines

# fmt: off
AUDIO_COLUMNS = (
    "audio_filepath", "audio_file", "audio_path", "audio", "file_name", "filename", "file_path", "filepath",
    "file", "path", "wav_path", "wav_file", "wav", "wave", "clip", "clip_id", "wav_id", "utt_id", "utterance_id",
    "utterance", "utt", "recording", "id", "name",
)
SPEAKER_COLUMNS = (
    "speaker", "speaker_id", "speaker_name", "speakerid", "spk", "spk_id", "spkid", "client_id", "reader",
    "reader_id", "narrator", "user_id",
)
# fmt: on
"""Names of the columns that say where a recording is and who speaks, the surest first."""
_DELIMITERS = ("|", "\t", ";", ",")
_SAMPLE_ROWS = 1_000
_LONGEST_SPEAKER = 64
_MOST_LINES_A_ROW = 50


@dataclass(frozen=True)
class Row:
    """One line of a listing.

    Attributes:
        line: its number, from 1.
        audio: what it says of where the recording is.
        speaker: who speaks; empty where it does not say.
    """

    line: int
    audio: str
    speaker: str = ""


@dataclass(frozen=True)
class Form:
    """What a table's columns are.

    Attributes:
        delimiter: between the columns; empty where there is but one.
        has_header: its first line has the columns' names.
        audio: the column of the recording, from 0.
        speaker: that of the speaker; None without one.
    """

    delimiter: str
    has_header: bool
    audio: int
    speaker: int | None

    def told(self) -> str:
        """For a user: what was understood."""
        columns = f"audio in column {self.audio + 1}"
        columns += "" if self.speaker is None else f", speaker in column {self.speaker + 1}"
        return f"{columns}, {'with' if self.has_header else 'without'} a line of names"


def find_form(path: Path, exists: Callable[[str], bool]) -> Form:
    """Look at a table's first lines.

    Args:
        path: the table.
        exists: whether there is a recording of that name.

    Raises:
        DatasetError: it cannot be read, or names no recording.
    """
    lines = list(islice((line for _, line in _lines(path)), _SAMPLE_ROWS))
    if not lines:
        raise DatasetError(f"{path}: has no lines; give a listing of recordings")
    marks = () if exists(lines[0].strip()) else _DELIMITERS  # else bare paths, with a comma in each
    delimiter = next((mark for mark in marks if mark in lines[0] and _is_usual(mark, lines)), "")
    is_whole = len(lines) < _SAMPLE_ROWS
    rows = [cells for _, cells in _split(path, enumerate(lines, 1), delimiter, is_whole=is_whole)]
    first, rest = rows[0], rows[1:]
    names = [cell.strip().lower().replace(" ", "_") for cell in first]
    audio = next((names.index(name) for name in AUDIO_COLUMNS if name in names), None)
    if audio is not None and not exists(first[audio]):
        speaker = next((names.index(name) for name in SPEAKER_COLUMNS if name in names), None)
        return Form(delimiter, True, audio, speaker)
    has_header = bool(rest) and _is_foreign_header(first, rest, exists)
    return Form(delimiter, has_header, 0, _speaker_column(rest if has_header else rows))


def read_rows(path: Path, form: Form) -> Iterator[Row]:
    """The lines of a table that name a recording, one by one.

    Raises:
        DatasetError: the table cannot be read, or a line has too few columns.
    """
    rows = _split(path, _lines(path), form.delimiter)
    for line, cells in islice(rows, int(form.has_header), None):
        if len(cells) <= max(form.audio, form.speaker or 0):
            raise DatasetError(
                f"{path}: line {line} has {len(cells)} columns, other lines more; mend or remove it"
            )
        if audio := cells[form.audio].strip():
            yield Row(line, audio, "" if form.speaker is None else cells[form.speaker].strip())


def _is_usual(mark: str, lines: Sequence[str]) -> bool:
    return sum(mark in line for line in lines) > len(lines) / 2


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines that are not empty, with their numbers."""
    try:
        yield from ((number, line) for number, line in enumerate(read_lines(path), 1) if line.strip())
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DatasetError(f"{path}: not a listing that can be read ({reason}); check the file") from error


def _split(
    path: Path, lines: Iterable[tuple[int, str]], delimiter: str, *, is_whole: bool = True
) -> Iterator[tuple[int, Sequence[str]]]:
    """Each line's cells. Quotes are read where CSV has them; with bars and tabs they belong to the text."""
    if delimiter not in (",", ";"):
        yield from ((number, line.split(delimiter) if delimiter else [line]) for number, line in lines)
        return
    numbers, texts = list[int](), list[str]()  # of the lines that make the next row

    def taken() -> Iterator[str]:
        for number, line in lines:
            numbers.append(number)
            texts.append(line + "\n")
            if len(numbers) > _MOST_LINES_A_ROW:
                raise csv.Error(f"goes on over {_MOST_LINES_A_ROW} lines")
            yield texts[-1]

    try:
        for cells in csv.reader(taken(), delimiter=delimiter):
            if is_whole and len(texts) > 1:  # a lone quote would take in the lines that follow
                list(csv.reader(texts, delimiter=delimiter, strict=True))
            yield numbers[-1], cells
            numbers.clear()
            texts.clear()
    except csv.Error as error:
        raise DatasetError(
            f"{path}: line {numbers[0]}: a quote that is not closed ({error}); mend it"
        ) from error


def _is_foreign_header(
    first: Sequence[str], rest: Sequence[Sequence[str]], exists: Callable[[str], bool]
) -> bool:
    """A first line of names in words that are not known: of letters alone, and no file is there, as for the rest."""
    name = first[0].strip()
    following = [cells[0].strip() for cells in rest[:20]]
    return (
        not exists(name)
        and all(exists(other) for other in following)
        and not any(character.isdigit() or character in "./" for character in name)
    )


def _speaker_column(rows: Sequence[Sequence[str]]) -> int | None:
    """1 where the second column looks like a speaker."""
    if any(len(cells) < 2 for cells in rows):
        return None
    seconds = Counter(cells[1].strip() for cells in rows)
    if any(not value or len(value) > _LONGEST_SPEAKER or len(value.split()) > 1 for value in seconds):
        return None
    same_as_third = all(len(cells) > 2 and cells[1].strip() == cells[2].strip() for cells in rows)
    if same_as_third:  # LJSpeech has a text and the same in words
        return None
    has_text = all(len(cells) > 2 and len(cells[2].split()) > 1 for cells in rows)
    repeated = len(seconds) <= len(rows) / 2
    return 1 if repeated or has_text else None
