"""Kaldi's data folders: `wav.scp`, and beside it `utt2spk` and `segments` where they are."""

from collections.abc import Iterator
from pathlib import Path

from gru_audio.data.inputs.found import Found
from gru_audio.data.inputs.lookup import Lookup
from gru_audio.data.inputs.resolver import Resolver
from gru_audio.data.inputs.times import seconds
from gru_audio.errors import DatasetError
from gru_audio.text_files import read_lines


def read_wav_scp(path: Path, resolver: Resolver) -> Iterator[Found]:
    """The recordings of a wav.scp, or where there is a `segments` file the stretches that it names.

    Raises:
        DatasetError: a file is no such list, or has a command or an archive in a file's place.
    """
    speakers = _Speakers(path.with_name("utt2spk"))
    segments = path.with_name("segments")
    if not segments.is_file():
        for index, (number, (name, file)) in enumerate(_columns(path, 2)):
            yield resolver.found(_plain(path, number, file), index, speakers.of(name), identity=name)
        return
    files = Lookup((name, _plain(path, number, file)) for number, (name, file) in _columns(path, 2))
    for index, (number, (name, recording, start, stop)) in enumerate(_columns(segments, 4)):
        listed = files.get(recording)
        where = f"{segments}: line {number}"
        if listed is None:
            raise DatasetError(f"{where}: recording '{recording}' is not in {path.name}; mend one of them")
        begins, ends = seconds(start, where), seconds(stop, where)
        yield resolver.found(
            listed,
            index,
            speakers.of(name),
            identity=name,
            start_s=begins,
            stop_s=ends if ends > begins else None,
        )


class _Speakers:
    """Who speaks, as utt2spk says; nothing where there is none."""

    def __init__(self, path: Path) -> None:
        self._of = (
            Lookup((name, speaker) for _, (name, speaker) in _columns(path, 2)) if path.is_file() else None
        )

    def of(self, name: str) -> str:
        return (self._of.get(name) if self._of else None) or ""


def _columns(path: Path, n_columns: int) -> Iterator[tuple[int, list[str]]]:
    """Each line's number and columns, of which the last may have spaces."""
    try:
        for number, line in enumerate(read_lines(path), 1):
            if not line.strip():
                continue
            cells = line.strip().split(maxsplit=n_columns - 1)
            if len(cells) < n_columns:
                raise DatasetError(
                    f"{path}: line {number} has {len(cells)} columns in place of {n_columns}; mend or remove it"
                )
            yield number, cells
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: not a list that can be read ({error}); check the file") from error


def _plain(path: Path, number: int, file: str) -> str:
    """A file's name; what Kaldi would run or look up in an archive is refused."""
    if file.endswith("|"):
        raise DatasetError(
            f"{path}: line {number} has a command in a file's place, which is not run; "
            "write what it makes to files, and list those"
        )
    if file == "-" or (":" in file and file.rsplit(":", 1)[1].isdigit() and ".ark:" in file):
        raise DatasetError(f"{path}: line {number} names no audio file ('{file}'); list files")
    return file
