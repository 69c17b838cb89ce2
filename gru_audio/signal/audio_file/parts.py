"""The recordings in a file: one, or several where files were joined."""

from collections.abc import Callable
from dataclasses import replace

from gru_audio.signal.audio_file import chunks, frames
from gru_audio.signal.audio_file.kinds import HEAD_BYTES, kind_of
from gru_audio.signal.audio_file.source import FilePart, OpenFile

_CHUNKED: dict[str, Callable[[OpenFile, int], FilePart]] = {
    "WAV": chunks.wav_part,
    "RF64": chunks.wav_part,
    "AIFF": chunks.aiff_part,
    "W64": chunks.w64_part,
    "CAF": chunks.caf_part,
    "AU": chunks.au_part,
    "NIST": chunks.nist_part,
    "VOC": chunks.voc_part,
}
_FRAMED: dict[str, Callable[[OpenFile, int], FilePart]] = {
    "MP3": frames.mpeg_part,
    "FLAC": frames.flac_part,
    "Ogg": frames.ogg_part,
    "MP4": frames.mp4_part,
    "Matroska": frames.matroska_part,
    "WMA": frames.asf_part,
    "TTA": frames.tta_part,
}
_MOST_PARTS = 1_000


def find_parts(source: OpenFile) -> list[FilePart]:
    """The recordings of a file, in order; at least one, whose kind is None where the file tells nothing."""
    parts: list[FilePart] = []
    place = frames.after_tags(source, 0)
    while place < source.size and len(parts) < _MOST_PARTS:
        kind = kind_of(source.at(place, HEAD_BYTES)) or ""
        find = (_CHUNKED | _FRAMED).get(kind)
        if find is None:
            break
        parts.append(find(source, place))
        place = frames.after_tags(source, parts[-1].end)
    if not parts:
        return [FilePart(None, 0, source.size)]
    if len(parts) == _MOST_PARTS:
        parts[-1] = replace(parts[-1], fault=f"at most {_MOST_PARTS} joined files are read")
    if parts[-1].kind in _CHUNKED:
        parts[-1] = replace(parts[-1], extra_bytes=source.size - place)
    elif place < source.size:
        parts[-1] = replace(parts[-1], end=source.size)
    return parts if len(parts) > 1 else [replace(parts[0], start=0, end=source.size)]
