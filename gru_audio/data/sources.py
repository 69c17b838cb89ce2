"""Finding the audio files of a corpus, with each clip's name and speaker.

Layouts are found by looking: LJSpeech (metadata.csv and wavs/), VCTK (wav48*/pNNN/), LibriTTS and
LibriSpeech (SPEAKER/CHAPTER/), and flat for all else, where each folder at the top stands for a speaker.
"""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from gru_audio.errors import DatasetError
from gru_audio.signal.audio_file.reading import AUDIO_SUFFIXES

_VCTK_SPEAKER = re.compile(r"[ps]\d+")
_SECOND_MICROPHONE = re.compile(r"_mic2$")


@dataclass(frozen=True)
class Source:
    """One file that is to become a clip.

    Attributes:
        path: the file.
        relative: the same relative to the source that the user gave; for a file its own name.
        name: the clip's name, unique among all sources.
        speaker: who speaks, as far as the folders tell.
        size_bytes: of the file; -1 where it cannot be told, for example because it is missing.
        mtime_ns: when the file was last changed; -1 where that cannot be told.
    """

    path: Path
    relative: str
    name: str
    speaker: str
    size_bytes: int
    mtime_ns: int


@dataclass(frozen=True)
class Plan:
    """What there is to prepare.

    Attributes:
        sources: the files, in the dataset's order.
        ignored: how many other files lie in the folders: no audio, not listed, second microphones.
        unreadable: folders that could not be searched, each with the reason.
    """

    sources: tuple[Source, ...]
    ignored: int
    unreadable: tuple[tuple[str, str], ...]


def plan_sources(sources: Sequence[Path], input_format: str | None = None) -> Plan:
    """Find the audio files in files and folders.

    Folders are searched to their depth in a stable order; names that begin with a dot are passed over.
    A clip's name is its path relative to the source, without the suffix. Where that would give two clips
    one name, the suffix stays or the source folder's name goes before; at last a number follows.

    Args:
        sources: files and folders.
        input_format: ffmpeg's name of the format that all files have. Where a folder has files with that
            suffix, only they are taken.

    Raises:
        DatasetError: a source is missing, or a folder has no audio.
    """
    files_below: dict[Path, list[Path]] = {}  # by folder; files given one by one count as their folder's
    seen: set[Path] = set()
    unreadable: dict[str, str] = {}
    ignored = 0
    for source in map(Path, sources):
        if not source.exists():
            raise DatasetError(f"{source}: no such file or folder; check the path")
        given = source.parent.resolve() / source.name if source.is_file() else source.resolve()
        folder = given.parent if source.is_file() else given
        files, others = ([given], 0) if source.is_file() else _files_of(folder, input_format, unreadable)
        ignored += others
        for file in files:
            if (real := file.resolve()) not in seen:
                seen.add(real)
                files_below.setdefault(folder, []).append(file)
    named = {folder: _named(folder, files) for folder, files in files_below.items()}
    return Plan(tuple(_numbered(_distinct(named))), ignored, tuple(unreadable.items()))


def readable(path: str | Path) -> str:
    """A path as text that can be printed and stored, whatever bytes its name has."""
    return os.fsencode(path).decode("utf-8", errors="backslashreplace")


def _files_of(source: Path, input_format: str | None, unreadable: dict[str, str]) -> tuple[list[Path], int]:
    """The audio files of one folder in order, and how many other files it has; adds to `unreadable`."""
    listed = _ljspeech_files(source)
    every = list(_walk(source, unreadable))
    if listed:
        return listed, len(set(every) - set(listed))
    suffixes: Iterable[str] = AUDIO_SUFFIXES
    if input_format is not None and any(file.suffix.lower() == f".{input_format}" for file in every):
        suffixes = (f".{input_format}",)
    audio = [file for file in every if file.suffix.lower() in suffixes]
    if not audio:
        if unreadable:
            folder, reason = next(iter(unreadable.items()))
            raise DatasetError(f"{folder}: {reason}")
        raise DatasetError(_no_audio(source, every, suffixes))
    chosen = _without_second_microphones(audio)
    return chosen, len(every) - len(chosen)


def _walk(folder: Path, unreadable: dict[str, str]) -> Iterator[Path]:
    """Files below a folder in a stable order, through links, without dotfiles and without going in circles."""

    def note_unreadable(error: OSError) -> None:
        reason = f"the folder cannot be searched ({error.strerror or error}); check who may read it"
        unreadable[readable(error.filename or folder)] = reason

    entered: set[str] = set()
    for place, folders, files in os.walk(folder, onerror=note_unreadable, followlinks=True):
        if (real := os.path.realpath(place)) in entered:
            folders.clear()
            continue
        entered.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(place, name) for name in sorted(files) if not name.startswith("."))


def _ljspeech_files(folder: Path) -> list[Path]:
    """The files that an LJSpeech metadata.csv lists (`ID|text|...`); none where the folder is no LJSpeech."""
    listing, wavs = folder / "metadata.csv", folder / "wavs"
    if not (listing.is_file() and wavs.is_dir()):
        return []
    lines = listing.read_text(encoding="utf-8", errors="replace").splitlines()
    names = sorted({line.split("|")[0].strip().lstrip("/") for line in lines if "|" in line})
    files = [wavs / (name if name.endswith(".wav") else f"{name}.wav") for name in names]
    return files if any(file.is_file() for file in files) else []


def _without_second_microphones(files: list[Path]) -> list[Path]:
    """VCTK has most sentences from two microphones at once; one is enough."""
    have = {file.with_suffix("") for file in files}

    def is_second(file: Path) -> bool:
        first = _SECOND_MICROPHONE.sub("_mic1", file.stem)
        return first != file.stem and file.with_name(first) in have

    return [file for file in files if not is_second(file)]


def _no_audio(source: Path, every: list[Path], suffixes: Iterable[str]) -> str:
    counts = Counter(file.suffix.lower() or "no suffix" for file in every)
    found = ", ".join(f"{count} × {suffix}" for suffix, count in counts.most_common(5)) or "no files"
    return (
        f"{source}: no audio files; found {found}; looked for {' '.join(sorted(suffixes))}; "
        "give files by name where their suffix is another"
    )


def _named(folder: Path, files: list[Path]) -> list[Source]:
    """The files below one folder as sources; names are unique among them."""
    relatives = [PurePosixPath(file.relative_to(folder)) for file in files]
    names = _names(relatives)
    return [
        Source(
            path=file,
            relative=readable(str(relative)),
            name=readable(str(name)),
            speaker=readable(_speaker(file, folder)),
            **_stamp(file),
        )
        for file, relative, name in zip(files, relatives, names, strict=True)
    ]


def _names(relatives: list[PurePosixPath]) -> list[PurePosixPath]:
    """The paths without their suffixes, but for those that would then be equal, or equal to such a one."""
    names = [relative.with_suffix("") for relative in relatives]
    while True:
        counts = Counter(names)
        distinct = [
            relative if counts[name] > 1 else name for relative, name in zip(relatives, names, strict=True)
        ]
        if distinct == names:
            return names
        names = distinct


def _speaker(file: Path, root: Path) -> str:
    """The speaker, by what the last folders look like; else the top folder's name."""
    last, before = file.parent.name, file.parent.parent.name
    stem = file.stem.replace("-", "_")  # LibriSpeech has dashes where LibriTTS has underscores
    if last.isdigit() and before.isdigit() and stem.startswith(f"{before}_{last}_"):
        return before
    if _VCTK_SPEAKER.fullmatch(last) and before.startswith("wav48"):
        return last
    if file.parent in (root, root / "wavs"):
        return root.name
    return file.relative_to(root).parts[0]


def _stamp(file: Path) -> dict[str, int]:
    try:
        status = file.stat()
    except OSError:
        return {"size_bytes": -1, "mtime_ns": -1}
    return {"size_bytes": status.st_size, "mtime_ns": status.st_mtime_ns}


def _distinct(below: dict[Path, list[Source]]) -> Iterator[Source]:
    """All sources, with their folders' names before the clips' where two folders share a clip's name."""
    names = Counter(name for sources in below.values() for name in {source.name for source in sources})
    collide = any(count > 1 for count in names.values())
    labels = _labels(list(below)) if collide else {}
    for folder, sources in below.items():
        for source in sources:
            if not collide:
                yield source
                continue
            label = labels[folder]
            yield replace(source, name=f"{label}/{source.name}", speaker=f"{label}/{source.speaker}")


def _numbered(sources: Iterable[Source]) -> Iterator[Source]:
    """The sources, with a number after a name that is taken: two names' odd bytes may read the same."""
    taken: set[str] = set()
    for source in sources:
        name, number = source.name, 1
        while name in taken:
            number += 1
            name = f"{source.name} ({number})"
        taken.add(name)
        yield replace(source, name=name)


def _labels(folders: list[Path]) -> dict[Path, str]:
    """A distinct name for each folder: as many of its last parts as that takes."""
    depth = 1
    while len({folder.parts[-depth:] for folder in folders}) < len(folders):
        depth += 1
    return {folder: readable("/".join(folder.parts[-depth:])) for folder in folders}
