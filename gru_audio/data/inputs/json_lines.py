"""JSON lines: one object for each recording, as NeMo and lhotse write them.

NeMo: `{"audio_filepath": …, "offset": …, "duration": …, "speaker": …}`. lhotse: recordings
(`{"id": …, "sources": [{"type": "file", "source": …}]}`) and cuts, which hold one with `start` and `duration`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gru_audio.data.inputs.found import Found
from gru_audio.data.inputs.resolver import Resolver
from gru_audio.data.inputs.tables import AUDIO_COLUMNS, SPEAKER_COLUMNS
from gru_audio.data.inputs.times import seconds
from gru_audio.documents import DocumentError, parse_json
from gru_audio.errors import DatasetError
from gru_audio.text_files import read_lines


def read_json_lines(path: Path, resolver: Resolver) -> Iterator[Found]:
    """The recordings that the lines name, one by one.

    Raises:
        DatasetError: a line is no object that names a file; names the line.
    """
    index = 0
    try:
        for number, line in enumerate(read_lines(path), 1):
            if not line.strip():
                continue
            where = f"{path}: line {number}"
            yield _found(_object(line, where), where, index, resolver)
            index += 1
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise DatasetError(f"{path}: not a listing that can be read ({error}); check the file") from error


def _object(line: str, where: str) -> dict[str, Any]:
    try:
        entry = parse_json(line, finite=False)
    except DocumentError as error:
        raise DatasetError(
            f"{where}: {str(error).removeprefix('is ')[:80]}; write one object for each recording, each on one line"
        ) from error
    if not isinstance(entry, dict):
        raise DatasetError(
            f"{where}: {type(entry).__name__} in place of an object; write one object a line, not one list"
        )
    return entry


def _found(entry: dict[str, Any], where: str, index: int, resolver: Resolver) -> Found:
    speaker = _first_text(entry, SPEAKER_COLUMNS)
    if not {"recording", "sources", "tracks"} & entry.keys():
        file = _first_text(entry, AUDIO_COLUMNS)
        if not file:
            raise DatasetError(f'{where}: names no audio file; name it as "audio_filepath"')
        start, stop = _stretch(entry, "offset", where)
        return resolver.found(file, index, speaker, start_s=start, stop_s=stop)
    recording, supervisions = entry.get("recording", entry), entry.get("supervisions")
    if isinstance(supervisions, list) and supervisions and isinstance(supervisions[0], dict):
        speaker = _first_text(supervisions[0], SPEAKER_COLUMNS) or speaker
    file = _lhotse_file(recording, where)
    start, stop = _stretch(entry, "start", where)
    if start == 0 and entry.get("duration") == recording.get("duration"):
        stop = None  # the cut is the whole recording
    return resolver.found(
        file, index, speaker, identity=_first_text(entry, ("id",)), start_s=start, stop_s=stop
    )


def _stretch(entry: dict[str, Any], start_key: str, where: str) -> tuple[float, float | None]:
    """Where a stretch begins and ends, in seconds; all of the recording where it does not say where it begins."""
    if entry.get(start_key) is None:
        return 0.0, None
    start = seconds(entry[start_key], where)
    duration = entry.get("duration")
    return start, None if duration is None else start + seconds(duration, where)


def _lhotse_file(recording: Any, where: str) -> str:
    """The one file that a lhotse recording is read from; a command or an address is not followed."""
    sources = recording.get("sources") if isinstance(recording, dict) else None
    if not (isinstance(sources, list) and sources and isinstance(sources[0], dict)):
        raise DatasetError(
            f"{where}: its cut has no recording of its own; give cuts or recordings with files"
        )
    if recording.get("transforms"):
        raise DatasetError(
            f"{where}: its recording has transforms, which are not applied here; save what they make"
        )
    kind, source = sources[0].get("type"), sources[0].get("source")
    if kind != "file" or not isinstance(source, str):
        raise DatasetError(f"{where}: its recording is of type '{str(kind)[:20]}'; only files are read")
    return source


def _first_text(entry: dict[str, Any], keys: tuple[str, ...]) -> str:
    """The first of some keys that holds a text or a whole number; empty where none does."""
    for key in keys:
        value = entry.get(key)
        if isinstance(value, str | int) and not isinstance(value, bool) and str(value).strip():
            return str(value).strip()
    return ""
