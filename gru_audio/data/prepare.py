"""From recordings to a dataset: plan, make the shards in parallel, list their clips, sum up.

Recordings are grouped in order; each group is one task that writes one shard. Plan and list lie on disk and results
are taken one by one, so memory is bounded by the number of jobs times one group, whatever the corpus. A shard tells
what it was made from, so a run that was cut short is taken up by running it again.

A dataset has parts: that of its first run, and one for each run that added to it. What parts hold is left as it is.
"""

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gru_audio.config import Config
from gru_audio.data.folder_lock import folder_lock
from gru_audio.data.outcome import Summary, Tally, totals
from gru_audio.data.place import Claim, Old, Part, find_old, release, remove, settings_of, stale_files, tidy
from gru_audio.data.shard_making import ShardTask, group, make_shard
from gru_audio.data.sources import SourcePlan, SpeakerRule, plan_sources
from gru_audio.data.splits import OPEN, assign_splits
from gru_audio.data.stored.contents import DATASET_FILE, DATASET_FORMAT, DATASET_VERSION, index_name
from gru_audio.data.stored.index import Index
from gru_audio.data.stored.index_writer import IndexWriter, index_writer
from gru_audio.data.stored.shards import SHARD_VERSION, shard_name
from gru_audio.data.treatment import ENOUGH_RECORDINGS
from gru_audio.errors import DatasetError, OutputError
from gru_audio.files import atomic_path, size_when_there
from gru_audio.parallel import map_in_order
from gru_audio.progress import Progress, ProgressCallback, ignore_progress
from gru_audio.voice.tensor_file import digest_of

_SPLIT_SETTINGS = {"split_by", "valid_fraction", "test_fraction"}


def prepare(
    sources: Sequence[Path],
    out: Path,
    config: Config,
    *,
    manifests: Sequence[Path] = (),
    speakers: SpeakerRule | None = None,
    mels: Path | None = None,
    input_format: str | None = None,
    jobs: int | None = None,
    licence: str = "",
    source_note: str = "",
    overwrite: bool = False,
    append: bool = False,
    progress: ProgressCallback = ignore_progress,
) -> Summary:
    """Make a dataset from recordings, or add recordings to one.

    A file that cannot be used is skipped and named in the summary. Shards of an earlier run that were
    made of the same files and settings are kept; those that had to skip a file try it again.

    Args:
        sources: files and folders; see `plan_sources`.
        out: the dataset's folder.
        config: its [mel], [signal] and [prep] shape the dataset.
        manifests: listings and archives; see `read_manifest`.
        speakers: how speakers are told; by default by what folders look like and listings say.
        mels: a folder of mels that an acoustic model made of the recordings, paired by name and checked; training,
            validation and evaluation then use them. See `read_given_mel`.
        input_format: ffmpeg's name of the format of all files, where they do not say it themselves.
        jobs: processes; by default one for each CPU core. See `map_in_order`, and `on_cluster` for many machines.
        licence: the audio's licence and attribution, to travel with the dataset.
        source_note: where the audio comes from.
        overwrite: replace a dataset that was made of other sources or with other settings.
        append: add what the dataset does not have yet, and redo nothing.
        progress: told after every shard, in files.

    Raises:
        DatasetError: no audio found, or no file could be used.
        OutputError: `out` cannot be written, holds something else, was made with other settings, or another process
            prepares a dataset there.
    """
    if mels is not None and config.prep.loudness_lufs < 0:
        raise DatasetError(
            f"{mels}: given mels would not fit audio whose loudness is changed; set prep.loudness_lufs to 0"
        )
    out = Path(out)
    with folder_lock(out, "prep", OutputError):
        old = find_old(out)
        base = _Base.of(old, config) if append and old is not None else _Base((), None, has_splits=False)
        plan = plan_sources(
            sources, input_format, manifests=manifests, speakers=speakers, mels=mels, known=base.known
        )
        work = _Work(out, plan, config, input_format, base.shards_before(base.part_of(plan.digest)))
        claim, digest = Claim(out, old), _PlanDigest(config)
        for task in work.tasks():
            claim.look(task.path, task.fingerprint)
            digest.add(task)
        if not base.parts and old is not None and old.parts and old.parts[0].plan == digest.hex:
            base = _Base.of(old, config, first_again=True)  # which redoes what is missing
        elif not base.parts and old is not None:
            release(old, config, overwrite=overwrite)
            old = None
        elif old is None and not overwrite:
            claim.require_own()
        parts = base.with_part(Part(plan.digest, digest.hex, digest.n_shards), out)
        with tidy(out), index_writer(out) as writer:
            tally = _make(work, base, writer, jobs, progress)
            if not writer.n_clips:
                remove([out / DATASET_FILE, *(task.path for task in work.tasks()), *stale_files(out, 0, "")])
                path, reason = tally.first_skipped
                raise DatasetError(
                    f"none of {len(plan.sources)} files can be used; the first: {path}: {reason}"
                )
            have = base.splits_of(writer.view(), base.part_of(plan.digest))
            writer.set_splits(assign_splits(writer.view(), config.prep, have))
            index_digest = writer.digest()
            if not (base.has_splits and old is not None and old.contents.get("index") == index_digest):
                writer.save(out / index_name(index_digest))  # else it is there, and mapped
            summary = tally.summary(writer.view(), config.prep, config.mel.sample_rate_hz)
            notes = old.contents if old else {}
            contents = {
                "format": DATASET_FORMAT,
                "version": DATASET_VERSION,
                "licence": _joined(notes.get("licence", ""), licence, append=append),
                "source_note": _joined(notes.get("source_note", ""), source_note, append=append),
                "totals": totals(writer.view(), summary.n_skipped, config.mel.sample_rate_hz),
                **settings_of(config),
                "parts": [part._asdict() for part in parts],
                "index": index_digest,
            }
            with atomic_path(out / DATASET_FILE) as temporary:
                temporary.write_text(json.dumps(contents, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        del base  # lets go of the index that it has mapped: Windows removes no such file
        remove(stale_files(out, sum(part.shards for part in parts), index_name(index_digest)))
        return summary


@dataclass(frozen=True)
class _Base:
    """What a run leaves as it is: the parts of the dataset that it adds to, or whose one part it makes again.

    Attributes:
        parts: of the dataset; none where it is made anew.
        index: its clips; None where there are no parts.
        has_splits: whether the index says how they are split.
    """

    parts: tuple[Part, ...]
    index: Index | None
    has_splits: bool

    @classmethod
    def of(cls, old: Old, config: Config, *, first_again: bool = False) -> "_Base":
        old.require_settings(config)
        if first_again and len(old.parts) == 1:
            return cls(old.parts, None, has_splits=False)  # nothing is left as it is
        return cls(old.parts, *old.index())

    def part_of(self, given: str) -> int:
        """The number of the part that was made of the same recordings; that of the next where there is none."""
        return next(
            (number for number, part in enumerate(self.parts) if part.given == given), len(self.parts)
        )

    def shards_before(self, part: int) -> int:
        return sum(found.shards for found in self.parts[:part])

    def known(self, given: str) -> Iterator[tuple[bytes, str]]:
        """What the parts before have, of the sources' keys and the clips' names."""
        if self.index is not None:
            yield from self.index.sources_known(self.shards_before(self.part_of(given)))

    def with_part(self, made: Part, out: Path) -> tuple[Part, ...]:
        """The parts once this one is made.

        Raises:
            OutputError: it was made before, otherwise.
        """
        number = self.part_of(made.given)
        if number == len(self.parts):
            return (*self.parts, made) if made.shards else self.parts
        if self.parts[number] != made:
            raise OutputError(
                f"{out}: already has these recordings, made in another way (perhaps read as another format); "
                "prepare it again with --overwrite"
            )
        return self.parts

    def splits_of(self, index: Index, number: int) -> NDArray[np.int_]:
        """(n_clips,), the splits that are settled, OPEN for those that are not, once a part is made."""
        have = np.full(len(index), OPEN)
        if self.index is None or not self.has_splits:
            return have
        if list(index.names) == list(self.index.names):
            return self.index.split.astype(int)  # what was missing is made again, and nothing is new
        first, stop = self.shards_before(number), self.shards_before(number + 1)
        is_new = index.shard >= first
        if number < len(self.parts):
            is_new &= index.shard < stop
        have[~is_new] = index.split[~is_new]
        return have


@dataclass(frozen=True)
class _Work:
    """What a run makes.

    Attributes:
        out: the dataset's folder.
        plan: of what.
        config: how.
        input_format: as the user said.
        first_shard: the number of its first shard.
    """

    out: Path
    plan: SourcePlan
    config: Config
    input_format: str | None
    first_shard: int

    def tasks(self) -> Iterator[ShardTask]:
        """The shards to make, one by one."""
        settings = settings_of(self.config)
        settings["prep"] = {key: settings["prep"][key] for key in settings["prep"].keys() - _SPLIT_SETTINGS}
        n_sources = len(self.plan.sources)
        n_recordings = ENOUGH_RECORDINGS if self.first_shard else min(n_sources, ENOUGH_RECORDINGS)
        for number, sources in enumerate(group(self.plan.sources), self.first_shard):
            told = [[source.name, source.speaker, source.key] for source in sources]
            yield ShardTask(
                path=self.out / shard_name(number),
                sources=sources,
                config=self.config,
                input_format=self.input_format,
                n_recordings=n_recordings,
                fingerprint=_digest([SHARD_VERSION, settings, self.input_format, n_recordings, told]),
            )


class _PlanDigest:
    """Tells whether two runs would make the same shards, with the same splits."""

    def __init__(self, config: Config) -> None:
        self._digest = hashlib.blake2b(_digest(config.prep.model_dump()).encode(), digest_size=16)
        self.n_shards = 0

    def add(self, task: ShardTask) -> None:
        self._digest.update(task.fingerprint.encode())
        self.n_shards += 1

    @property
    def hex(self) -> str:
        return self._digest.hexdigest()


def _make(
    work: _Work, base: _Base, writer: IndexWriter, jobs: int | None, progress: ProgressCallback
) -> Tally:
    """Make the shards, and list their clips between those of the parts before and behind."""
    tally, total, started = Tally(work.plan), len(work.plan.sources), time.monotonic()
    if base.index is not None:
        writer.copy(base.index, 0, work.first_shard)
    rate = work.config.mel.sample_rate_hz
    progress(Progress(0, total))
    with closing(map_in_order(make_shard, work.tasks(), jobs)) as made:
        for shard in made:
            path = work.out / shard_name(writer.n_shards)
            writer.add(shard.header, size_when_there(path))
            tally.add(shard)
            speed = tally.fresh_samples / rate / max(time.monotonic() - started, 1e-9)
            figures = {
                "files": f"{tally.sources}/{total}",
                "audio": f"{tally.samples / rate / 3600:.2f} h",
                "speed": f"{speed:.0f} x real time",
            }
            progress(Progress(tally.sources, total, figures))
    if base.index is not None:
        writer.copy(base.index, writer.n_shards, max(writer.n_shards, base.shards_before(len(base.parts))))
    tally.kept += writer.n_shards - tally.kept - tally.made
    return tally


def _joined(before: str, now: str, *, append: bool) -> str:
    """What a dataset says of its licence or origin: of all its parts where it was added to."""
    if not append:
        return now or before
    return before if now in before else " and ".join(filter(None, [before, now]))


def _digest(contents: Any) -> str:
    return digest_of(json.dumps(contents, sort_keys=True).encode())
