"""WebDataset: recordings in tar files, each with what is known of it under the same name.

An archive is never unpacked: its headers are read once to find the recordings, and each recording is read at its
place when its turn comes. `NAME.json` beside a recording may name the speaker, or `NAME.spk` and the like.
"""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePath, PurePosixPath

from gru_audio.data.inputs.found import Found, stamp_of
from gru_audio.data.inputs.speakers import SpeakerRule
from gru_audio.data.inputs.tables import SPEAKER_COLUMNS
from gru_audio.documents import DocumentError, parse_json
from gru_audio.errors import DatasetError
from gru_audio.signal.audio_file.reading import AUDIO_SUFFIXES

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_MOST_TOLD_BYTES = 1 << 20
_BLOCK = 512


@dataclass
class _Sample:
    """The members of one name."""

    key: str
    audio: list[tarfile.TarInfo] = field(default_factory=list)
    speaker: str = ""


def read_tar(path: Path, root: Path, index: int, rule: SpeakerRule) -> Iterator[Found]:
    """The recordings of one archive, in its order.

    Args:
        path: the archive.
        root: the folder of archives that was given; the speaker of what says nothing else is named after it.
        index: of the archive among them.
        rule: how speakers are told where the archive does not say it.

    Raises:
        DatasetError: no archive, or a damaged one.
    """
    _, mtime = stamp_of(path)
    number = 0
    for sample in _samples(path):
        for member in sample.audio:
            inner = PurePosixPath(
                *(part for part in PurePosixPath(member.name).parts if part not in ("/", "..", "."))
            )
            yield Found(
                path,
                relative=f"{stem_of(path.relative_to(root))}/{inner}",
                speaker=sample.speaker or rule.speaker(inner, root.resolve().name),
                size_bytes=member.size,
                mtime_ns=mtime,
                order=index.to_bytes(4, "big") + number.to_bytes(4, "big"),
                member=member.name,
                place=member.offset_data,
            )
            number += 1


def read_member(path: Path, place: int, size_bytes: int) -> bytes:
    """The bytes of a recording in an archive.

    Raises:
        OSError: it cannot be read.
        EOFError: it was cut short since.
    """
    with path.open("rb") as raw:
        is_plain = raw.read(_BLOCK)[257:262] == b"ustar"
        raw.seek(place if is_plain else 0)
        if is_plain:
            data = raw.read(size_bytes)
        else:  # compressed: everything before it is read, too
            with tarfile.open(fileobj=raw) as archive:
                assert archive.fileobj is not None
                archive.fileobj.seek(place)
                data = archive.fileobj.read(size_bytes)
    if len(data) < size_bytes:
        raise EOFError
    return data


def _samples(path: Path) -> Iterator[_Sample]:
    """The members of each name, which WebDataset keeps together."""
    sample: _Sample | None = None
    try:
        with tarfile.open(path) as archive:
            while member := archive.next():
                archive.members.clear()  # type: ignore[attr-defined]  # or it would keep all headers in memory
                name = PurePosixPath(member.name)
                if not member.isfile() or member.sparse or name.name.startswith("."):
                    continue
                base, _, kind = name.name.partition(".")
                key = str(name.with_name(base))
                if sample is None or sample.key != key:
                    if sample is not None:
                        yield sample
                    sample = _Sample(key)
                if f".{kind.rpartition('.')[2]}".lower() in AUDIO_SUFFIXES:
                    sample.audio.append(member)
                elif kind.lower() in ("json", *SPEAKER_COLUMNS) and member.size <= _MOST_TOLD_BYTES:
                    told = archive.extractfile(member)
                    sample.speaker = sample.speaker or _speaker(kind.lower(), told.read() if told else b"")
    except (OSError, tarfile.TarError, EOFError) as error:
        raise DatasetError(f"{path}: no whole tar archive ({error}); replace it") from error
    if sample is not None:
        yield sample


def _speaker(kind: str, told: bytes) -> str:
    """Who speaks, as a recording's JSON or text says; empty where it does not."""
    text = told.decode("utf-8", errors="replace").strip()
    if kind != "json":
        return text.partition("\n")[0].strip()
    try:
        known = parse_json(text, finite=False)
    except DocumentError:
        return ""
    values = (known.get(key) for key in SPEAKER_COLUMNS) if isinstance(known, dict) else ()
    return next((str(value) for value in values if isinstance(value, str | int) and str(value)), "")


def stem_of(path: PurePath) -> str:
    name = path.as_posix()
    return next(
        (name.removesuffix(suffix) for suffix in reversed(TAR_SUFFIXES) if name.endswith(suffix)), name
    )
