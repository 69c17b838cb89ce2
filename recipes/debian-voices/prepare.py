"""Gather the speech of many people, from Debian's packages, as FLAC at 16 kHz and one level: CORPUS/<speaker>/….

python recipes/debian-voices/prepare.py CORPUS --licence gpl-3

Needs apt-get, dpkg-deb and ffmpeg, not root: packages are downloaded and unpacked, not installed. A speaker's
folder is there whole or not at all; what is there stays: interrupted, the same command goes on.
"""

import argparse
import contextlib
import json
import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import clips
from licences import attribution, shared_under
from packages import unpacked
from speakers import LICENCES, NEVER_TRAIN, PACKAGES, SPEAKERS, Speaker

from gru_audio.errors import DatasetError, GruAudioError
from gru_audio.files import atomic_path
from gru_audio.parallel import map_in_order
from gru_audio.signal.audio_file.writing import write_audio

RECIPE = 2
"""Raised where the same files would become other clips."""
RECORD = ".made.json"
"""In a speaker's folder: how it was made. `prep` passes over names that begin with a dot."""


class Task(NamedTuple):
    source: Path
    name: str
    is_old: bool
    min_voiced: float


@dataclass
class Tally:
    active_s: float = 0.0
    dropped: Counter[str] = field(default_factory=Counter)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--licence", choices=LICENCES, default=LICENCES[0], help="%(default)s by default")
    parser.add_argument("--cache", type=Path, help="for unpacked packages; CORPUS-packages by default")
    parser.add_argument("--jobs", type=int, help="processes; one for each core by default")
    given = parser.parse_args()
    cache = given.cache or given.corpus.with_name(f"{given.corpus.name}-packages")
    try:
        records = list(prepare(given.corpus, given.licence, cache, given.jobs))
        speakers = [record["speaker"] for record in records]
        with atomic_path(given.corpus / "ATTRIBUTION.txt") as temporary:
            temporary.write_text(f"{shared_under(speakers)}: {attribution(speakers)}\n")
        show(records)
    except GruAudioError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        sys.exit(130)


def prepare(corpus: Path, licence: str, cache: Path, jobs: int | None) -> Iterator[dict[str, Any]]:
    """Make each speaker's folder that is not there; how each was made, in order.

    Raises:
        DatasetError: a package cannot be had; a folder was made by another recipe, or does not go with the licence.
    """
    allowed = LICENCES[: LICENCES.index(licence) + 1]
    for speaker in SPEAKERS:
        needs = PACKAGES[speaker.package].needs
        if needs not in allowed and (corpus / speaker.name).exists():
            raise DatasetError(
                f"{corpus / speaker.name}: is there, and needs --licence {needs}; name another corpus"
            )
    for package, about in PACKAGES.items():
        if about.needs not in allowed:
            continue
        speakers = [speaker for speaker in SPEAKERS if speaker.package == package]
        made = {speaker.name: record_of(corpus / speaker.name) for speaker in speakers}
        if not all(made.values()):
            folder, version = unpacked(package, about.version, cache, tell)
            tasks = tasks_of(folder / about.root, speakers)
        for speaker in speakers:
            record = made[speaker.name]
            if record is None:
                told = {"speaker": speaker.name, "package": package, "version": version}
                record = make(corpus, speaker, tasks[speaker.name], told, jobs)
            tell(f"{speaker.name}: {record['clips']} clips, {record['minutes']:.1f} minutes")
            yield record


def record_of(folder: Path) -> dict[str, Any] | None:
    """How a speaker's folder was made; None where it is not there.

    Raises:
        DatasetError: it was not made by this recipe.
    """
    if not folder.exists():
        return None
    try:
        record = json.loads((folder / RECORD).read_text())
    except (OSError, ValueError):
        record = {}
    if record.get("recipe") != RECIPE:
        raise DatasetError(f"{folder}: not made by this recipe; move it away, or name another corpus")
    return dict(record)


def tasks_of(root: Path, speakers: list[Speaker]) -> dict[str, list[Task]]:
    """The files of each of a package's speakers, in order; a file goes to the first that it fits.

    Raises:
        DatasetError: a speaker has no files, so that the package is not the one that the recipe knows.
    """
    tasks: dict[str, list[Task]] = {speaker.name: [] for speaker in speakers}
    never = NEVER_TRAIN.get(speakers[0].package)
    for path in sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink()):
        if never and re.fullmatch(never, str(path.relative_to(root))):
            continue
        for speaker in speakers:
            folder = root / speaker.folder
            if folder not in path.parents:
                continue
            inside = path.relative_to(folder)
            if re.fullmatch(speaker.files, str(inside)) and not (speaker.untagged and clips.is_tagged(path)):
                tasks[speaker.name].append(
                    Task(path, str(inside.with_suffix("")), speaker.is_old, speaker.min_voiced)
                )
                break
    for speaker in speakers:
        if not tasks[speaker.name]:
            raise DatasetError(
                f"{root / speaker.folder}: no files of {speaker.name}; is {speaker.package} whole?"
            )
    return tasks


def make(
    corpus: Path, speaker: Speaker, tasks: list[Task], told: dict[str, str], jobs: int | None
) -> dict[str, Any]:
    """Make a speaker's folder aside, and bring it to its place when it is whole."""
    aside = corpus / ".making" / speaker.name
    shutil.rmtree(aside, ignore_errors=True)
    tally, n_clips = Tally(), 0
    pieces = kept(tasks, tally, jobs)
    named = ((name, piece.audio) for name, piece in pieces) if speaker.is_old else clips.joined(pieces)
    for name, audio in named:
        write_audio(aside / f"{name}.flac", audio, clips.RATE_HZ)
        n_clips += 1
    record = {
        **told,
        "recipe": RECIPE,
        "files": len(tasks),
        "kept": len(tasks) - sum(tally.dropped.values()),
        "clips": n_clips,
        "minutes": round(tally.active_s / 60, 3),
        "dropped": dict(sorted(tally.dropped.items())),
    }
    with atomic_path(aside / RECORD) as temporary:
        temporary.write_text(json.dumps(record, indent=1) + "\n")
    aside.rename(corpus / speaker.name)
    with contextlib.suppress(OSError):
        aside.parent.rmdir()  # empty between two speakers
    return record


def kept(tasks: list[Task], tally: Tally, jobs: int | None) -> Iterator[tuple[str, clips.Piece]]:
    """The pieces that stay, each with its name, in order; the tally grows on the way."""
    seen: set[str] = set()
    for task, piece in zip(tasks, map_in_order(piece_of, tasks, jobs), strict=True):
        reason = piece.reason or ("copy" if piece.digest in seen else "")
        if reason:
            tally.dropped[reason] += 1
            continue
        if piece.digest:
            seen.add(piece.digest)
        tally.active_s += piece.active_s
        yield task.name, piece


def piece_of(task: Task) -> clips.Piece:
    return clips.whole(task.source) if task.is_old else clips.chosen(task.source, task.min_voiced)


def show(records: list[dict[str, Any]]) -> None:
    """A table of the speakers: what there is of each, and why files were left out."""
    print(f"\n{'speaker':24}{'files':>6}{'kept':>6}{'clips':>6}{'minutes':>8}  left out")
    for record in records:
        why = ", ".join(f"{n} {reason}" for reason, n in record["dropped"].items())
        counts = "".join(f"{record[key]:6}" for key in ("files", "kept", "clips"))
        print(f"{record['speaker']:24}{counts}{record['minutes']:8.1f}  {why}")
    totals = "".join(f"{sum(record[key] for record in records):6}" for key in ("files", "kept", "clips"))
    print(f"{len(records):<24}{totals}{sum(record['minutes'] for record in records):8.1f}")


def tell(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
