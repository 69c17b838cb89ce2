"""A look at a corpus before it is prepared: what there is, what is wrong with it, what it will take."""

from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from gru_audio.config import Config
from gru_audio.data.shards import digest_of
from gru_audio.data.sources import Source, plan_sources, readable
from gru_audio.data.treatment import clipped_samples, group, read_sounding
from gru_audio.errors import AudioError
from gru_audio.parallel import map_in_order
from gru_audio.progress import Progress, ProgressCallback, ignore_progress

_BYTES_A_SAMPLE = 2
_BYTES_A_LAG = 4
_BYTES_A_CLIP = 512  # its record and its tensors' entries in the shard's header


@dataclass(frozen=True)
class Survey:
    """What `survey` found.

    Attributes:
        files: files that can be used.
        duration_s: seconds of audio in them.
        sample_rates_hz: files by sample rate.
        formats: files by suffix.
        speakers: files by speaker.
        clipped: files with runs of samples at full scale.
        duplicates: groups of files with equal audio.
        padded: files that are shorter than `prep.min_duration_s`.
        unusable: files that cannot be used and folders that cannot be searched, each with the reason.
        ignored: other files that lie in the folders.
        disk_bytes: what the dataset takes at most; trimming makes it less.
    """

    files: int
    duration_s: float
    sample_rates_hz: dict[int, int]
    formats: dict[str, int]
    speakers: dict[str, int]
    clipped: tuple[str, ...]
    duplicates: tuple[tuple[str, ...], ...]
    padded: int
    unusable: tuple[tuple[str, str], ...]
    ignored: int
    disk_bytes: int


@dataclass(frozen=True)
class _Look:
    """What one file holds."""

    source: Source
    sample_rate_hz: int = 0
    n_samples: int = 0
    clipped: bool = False
    digest: str = ""
    reason: str = ""

    @property
    def duration_s(self) -> float:
        return self.n_samples / self.sample_rate_hz


def survey(
    sources: Sequence[Path],
    config: Config,
    *,
    input_format: str | None = None,
    jobs: int | None = None,
    progress: ProgressCallback = ignore_progress,
) -> Survey:
    """Read every file that `prepare` would read, and write nothing.

    Args:
        sources: files and folders; see `plan_sources`.
        config: says the rate and the padding of what would be written.
        input_format: ffmpeg's name of the format of all files, where they do not say it themselves.
        jobs: processes; see `map_in_order`.
        progress: told after every group of files.

    Raises:
        DatasetError: a source is missing, or a folder has no audio.
    """
    plan = plan_sources(sources, input_format)
    tasks = [(files, input_format) for files in group(plan.sources)]
    looks: list[_Look] = []
    with closing(map_in_order(_look_at_group, tasks, jobs)) as found:
        for group_looks in found:
            looks += group_looks
            figures = {"files": f"{len(looks)}/{len(plan.sources)}"}
            progress(Progress(len(looks), len(plan.sources), figures))
    usable = [look for look in looks if not look.reason]
    alike: dict[str, list[str]] = {}
    for look in usable:
        alike.setdefault(look.digest, []).append(readable(look.source.path))
    return Survey(
        files=len(usable),
        duration_s=sum(look.duration_s for look in usable),
        sample_rates_hz=dict(sorted(Counter(look.sample_rate_hz for look in usable).items())),
        formats=dict(sorted(Counter(look.source.path.suffix.lower() for look in usable).items())),
        speakers=dict(sorted(Counter(look.source.speaker for look in usable).items())),
        clipped=tuple(readable(look.source.path) for look in usable if look.clipped),
        duplicates=tuple(tuple(paths) for paths in alike.values() if len(paths) > 1),
        padded=sum(look.duration_s < config.prep.min_duration_s for look in usable),
        unusable=(
            *((readable(look.source.path), look.reason) for look in looks if look.reason),
            *plan.unreadable,
        ),
        ignored=plan.ignored,
        disk_bytes=sum(_disk_bytes(look.duration_s, config) for look in usable),
    )


def _look_at_group(task: tuple[tuple[Source, ...], str | None]) -> list[_Look]:
    sources, input_format = task
    return [_look_at(source, input_format) for source in sources]


def _look_at(source: Source, input_format: str | None) -> _Look:
    try:
        audio, sample_rate_hz = read_sounding(source.path, input_format)
    except AudioError as error:
        return _Look(source, reason=str(error).removeprefix(f"{source.path}: "))
    digest = digest_of(str(sample_rate_hz).encode(), audio)
    return _Look(source, sample_rate_hz, audio.size, clipped_samples(audio) > 0, digest)


def _disk_bytes(duration_s: float, config: Config) -> int:
    seconds = max(duration_s, config.prep.min_duration_s)
    frames = int(seconds * config.mel.frame_rate_hz) + 1
    return frames * (config.mel.hop_samples * _BYTES_A_SAMPLE + _BYTES_A_LAG) + _BYTES_A_CLIP
