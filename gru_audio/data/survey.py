"""A look at a corpus before it is prepared: what there is, what is wrong with it, what it will take."""

from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from gru_audio.config import Config, PrepConfig
from gru_audio.data.cutting import cut_at_pauses
from gru_audio.data.inputs.lookup import scratch_database
from gru_audio.data.outcome import MOST_NAMED, split_warnings
from gru_audio.data.reading import read_source, shown_path, why_unusable
from gru_audio.data.shard_making import group
from gru_audio.data.sources import Source, SpeakerRule, plan_sources
from gru_audio.data.stored.index import SPLITS
from gru_audio.data.treatment import clipped_samples, longest_piece_s
from gru_audio.errors import AudioError
from gru_audio.parallel import map_in_order
from gru_audio.progress import Progress, ProgressCallback, ignore_progress
from gru_audio.voice.tensor_file import digest_of

_BYTES_A_SAMPLE = 2
_BYTES_A_LAG = 4
_BYTES_A_CLIP = 512  # its record and its tensors' entries in the shard's header


@dataclass(frozen=True)
class Survey:
    """What `survey` found. Of what is named, no more than the first thousand are.

    Attributes:
        files: recordings that can be used.
        clips: that they will be, long ones cut at pauses.
        duration_s: seconds of audio in them.
        sample_rates_hz: recordings by sample rate.
        formats: recordings by suffix.
        speakers: recordings by speaker.
        speaker_minutes: minutes of audio by speaker.
        clipped: recordings with runs of samples at full scale.
        duplicates: groups of recordings with equal audio.
        padded: recordings that are shorter than `prep.min_duration_s`.
        unusable: files that cannot be used and folders that cannot be searched, each with the reason.
        ignored: other files that lie in the folders.
        disk_bytes: what the dataset takes at most; trimming makes it less.
        notes: how listings were understood.
        warnings: what training or evaluation will say of the dataset.
    """

    files: int
    clips: int
    duration_s: float
    sample_rates_hz: dict[int, int]
    formats: dict[str, int]
    speakers: dict[str, int]
    speaker_minutes: dict[str, float]
    clipped: tuple[str, ...]
    duplicates: tuple[tuple[str, ...], ...]
    padded: int
    unusable: tuple[tuple[str, str], ...]
    ignored: int
    disk_bytes: int
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class _Look:
    """What one recording holds."""

    path: str
    suffix: str
    speaker: str
    sample_rate_hz: int = 0
    n_samples: int = 0
    clips: int = 0
    clipped: bool = False
    digest: str = ""
    reason: str = ""

    @property
    def duration_s(self) -> float:
        return self.n_samples / self.sample_rate_hz


@dataclass(frozen=True)
class _Task:
    """Recordings to look at together; else as `_look_at` takes it."""

    sources: tuple[Source, ...]
    input_format: str | None
    prep: PrepConfig
    n_sources: int

    def absolute(self) -> "_Task":
        """The same for a process that works in another folder."""
        return replace(self, sources=tuple(source.absolute() for source in self.sources))


class _Tally:
    """Counts what is looked at; of the recordings themselves nothing is kept in memory."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self.looked = self.files = self.clips = self.padded = self.disk_bytes = 0
        self.duration_s = 0.0
        self.rates, self.formats, self.speakers = Counter[int](), Counter[str](), Counter[str]()
        self.minutes: dict[str, float] = {}
        self.clipped, self.unusable = list[str](), list[tuple[str, str]]()
        self._digests = scratch_database(self)
        self._digests.execute("BEGIN")
        self._digests.execute("CREATE TABLE digests (digest TEXT, path TEXT)")

    def add(self, look: _Look) -> None:
        self.looked += 1
        if look.reason:
            self.unusable += [(look.path, look.reason)][: MOST_NAMED - len(self.unusable)]
            return
        self.files += 1
        self.clips += look.clips
        self.duration_s += look.duration_s
        self.padded += look.duration_s < self._config.prep.min_duration_s
        self.disk_bytes += _disk_bytes(look, self._config)
        self.rates[look.sample_rate_hz] += 1
        self.formats[look.suffix] += 1
        self.speakers[look.speaker] += 1
        self.minutes[look.speaker] = self.minutes.get(look.speaker, 0.0) + look.duration_s / 60
        if look.clipped and len(self.clipped) < MOST_NAMED:
            self.clipped.append(look.path)
        self._digests.execute("INSERT INTO digests VALUES (?, ?)", (look.digest, look.path))

    def duplicates(self) -> tuple[tuple[str, ...], ...]:
        """The recordings with equal audio."""
        repeated = self._digests.execute(
            "SELECT digest FROM digests GROUP BY digest HAVING COUNT(*) > 1 ORDER BY MIN(rowid) LIMIT ?",
            (MOST_NAMED,),
        ).fetchall()
        paths = "SELECT path FROM digests WHERE digest = ? ORDER BY rowid"
        return tuple(tuple(path for (path,) in self._digests.execute(paths, digest)) for digest in repeated)


def survey(
    sources: Sequence[Path],
    config: Config,
    *,
    manifests: Sequence[Path] = (),
    speakers: SpeakerRule | None = None,
    input_format: str | None = None,
    jobs: int | None = None,
    progress: ProgressCallback = ignore_progress,
) -> Survey:
    """Read every recording that `prepare` would read, and write nothing.

    Args:
        sources: files and folders; see `plan_sources`.
        config: says the rate, the cuts and the padding of what would be written.
        manifests: listings and archives; see `read_manifest`.
        speakers: how speakers are told; by default by what folders look like and listings say.
        input_format: ffmpeg's name of the format of all files, where they do not say it themselves.
        jobs: processes; see `map_in_order`.
        progress: told after every group of files.

    Raises:
        DatasetError: a source is missing, or a folder has no audio.
    """
    plan = plan_sources(sources, input_format, manifests=manifests, speakers=speakers)
    n_sources, tally = len(plan.sources), _Tally(config)
    tasks = (_Task(files, input_format, config.prep, n_sources) for files in group(plan.sources))
    with closing(map_in_order(_look_at_group, tasks, jobs)) as found:
        for looks in found:
            for look in looks:
                tally.add(look)
            progress(Progress(tally.looked, n_sources, {"files": f"{tally.looked}/{n_sources}"}))
    # A split is empty only where there are too few clips for all, whatever the hash says.
    splits = {split: int(tally.clips > number) for number, split in enumerate(SPLITS)}
    return Survey(
        files=tally.files,
        clips=tally.clips,
        duration_s=tally.duration_s,
        sample_rates_hz=dict(sorted(tally.rates.items())),
        formats=dict(sorted(tally.formats.items())),
        speakers=dict(sorted(tally.speakers.items())),
        speaker_minutes={speaker: round(minutes, 2) for speaker, minutes in sorted(tally.minutes.items())},
        clipped=tuple(tally.clipped),
        duplicates=tally.duplicates(),
        padded=tally.padded,
        unusable=(*tally.unusable, *plan.unreadable),
        ignored=plan.ignored,
        disk_bytes=tally.disk_bytes,
        notes=plan.notes,
        warnings=tuple(split_warnings(_wanted(splits, config.prep), config.prep)),
    )


def _wanted(splits: dict[str, int], prep: PrepConfig) -> dict[str, int]:
    """Splits without those whose fraction is 0."""
    fractions = {"train": 1.0, "valid": prep.valid_fraction, "test": prep.test_fraction}
    return {split: count if fractions[split] else 0 for split, count in splits.items()}


def _look_at_group(task: _Task) -> list[_Look]:
    return [_look_at(source, task.input_format, task.prep, task.n_sources) for source in task.sources]


def _look_at(source: Source, input_format: str | None, prep: PrepConfig, n_sources: int) -> _Look:
    stored = source.relative if source.member else source.path
    path, suffix = shown_path(source), PurePosixPath(stored).suffix.lower()
    try:
        audio, sample_rate_hz = read_source(source, input_format)
    except (AudioError, MemoryError) as error:
        return _Look(path, suffix, source.speaker, reason=why_unusable(source, error))
    longest_s = longest_piece_s(audio.size / sample_rate_hz, prep, n_sources)
    return _Look(
        path, suffix, source.speaker, sample_rate_hz, audio.size,
        clips=len(cut_at_pauses(audio, sample_rate_hz, longest_s)),
        clipped=clipped_samples(audio) > 0,
        digest=digest_of(str(sample_rate_hz).encode(), audio),
    )  # fmt: skip


def _disk_bytes(look: _Look, config: Config) -> int:
    seconds = max(look.duration_s, config.prep.min_duration_s)
    frames = int(seconds * config.mel.frame_rate_hz) + look.clips
    return frames * (config.mel.hop_samples * _BYTES_A_SAMPLE + _BYTES_A_LAG) + look.clips * _BYTES_A_CLIP
