"""From audio files to a dataset: plan, make the shards in parallel, sum up.

Files are grouped in order; each group is one task that writes one shard, so memory is bounded by the
number of jobs times one group, whatever the corpus. A shard tells what it was made from, so a run that
was cut short is taken up by running it again.
"""

import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gru_audio.config import Config
from gru_audio.data.dataset import DATASET_FILE, DATASET_FORMAT, DATASET_VERSION, SPLITS, read_contents
from gru_audio.data.shards import (
    SHARD_VERSION,
    ClipRecord,
    DamagedShardError,
    ShardHeader,
    digest_of,
    is_shard,
    read_header,
    shard_files,
)
from gru_audio.data.sources import Plan, plan_sources, readable
from gru_audio.data.splits import Splits, assign_splits
from gru_audio.data.treatment import ShardTask, group, make_shard
from gru_audio.errors import DatasetError, OutputError
from gru_audio.files import atomic_path, output_errors
from gru_audio.parallel import map_in_order
from gru_audio.progress import Progress, ProgressCallback, ignore_progress

_SPLIT_SETTINGS = {"split_by", "valid_fraction", "test_fraction"}


@dataclass(frozen=True)
class Summary:
    """What `prepare` made.

    Attributes:
        clips: clips in the dataset.
        duration_s: seconds of audio in it.
        splits: clips in each split.
        speakers: clips of each speaker.
        kept_shards: shards that an earlier run had made and that still hold.
        made_shards: shards that this run made.
        skipped: files that could not be used and folders that could not be searched, each with the reason.
        ignored: other files that lie in the folders.
        clipped: clips whose source has runs of samples at full scale.
        duplicates: groups of clips with equal PCM.
    """

    clips: int
    duration_s: float
    splits: dict[str, int]
    speakers: dict[str, int]
    kept_shards: int
    made_shards: int
    skipped: tuple[tuple[str, str], ...]
    ignored: int
    clipped: tuple[str, ...]
    duplicates: tuple[tuple[str, ...], ...]


def prepare(
    sources: Sequence[Path],
    out: Path,
    config: Config,
    *,
    input_format: str | None = None,
    jobs: int | None = None,
    licence: str = "",
    source_note: str = "",
    overwrite: bool = False,
    progress: ProgressCallback = ignore_progress,
) -> Summary:
    """Make a dataset from audio files and folders.

    A file that cannot be used is skipped and named in the summary. Shards of an earlier run that were
    made of the same files and settings are kept; those that had to skip a file try it again.

    Args:
        sources: files and folders; see `plan_sources`.
        out: the dataset's folder.
        config: its [mel], [signal] and [prep] shape the dataset.
        input_format: ffmpeg's name of the format of all files, where they do not say it themselves.
        jobs: processes; by default one for each CPU core. See `map_in_order`.
        licence: the audio's licence and attribution, to travel with the dataset.
        source_note: where the audio comes from.
        overwrite: replace a dataset that was made of other sources or with other settings.
        progress: told after every shard, in files.

    Raises:
        DatasetError: no audio found, or no file could be used.
        OutputError: `out` cannot be written, or holds something else.
    """
    out = Path(out)
    plan = plan_sources(sources, input_format)
    tasks = _shard_tasks(plan, out, config, input_format)
    plan_digest = _digest([[task.fingerprint for task in tasks], config.prep.model_dump()])
    old = _claim(out, tasks, plan_digest, config, overwrite=overwrite)
    with _tidy(out):
        headers, kept = _make_shards(tasks, jobs, progress)
    clips = [clip for header in headers for clip in header.clips]
    splits = assign_splits(clips, config.prep)
    summary = _summary(plan, headers, kept, splits, config.mel.sample_rate_hz)
    if not clips:
        _remove([out / DATASET_FILE, *(task.path for task in tasks)])
        path, reason = summary.skipped[0]
        raise DatasetError(f"none of {len(plan.sources)} files can be used; the first: {path}: {reason}")
    contents = {
        "format": DATASET_FORMAT,
        "version": DATASET_VERSION,
        "licence": licence or old.get("licence", ""),
        "source_note": source_note or old.get("source_note", ""),
        "totals": _totals(clips, splits, summary, config.mel.sample_rate_hz),
        **_settings(config),
        "splits": {split: [name for name in splits.of if splits.of[name] == split] for split in SPLITS[1:]},
        "promoted": list(splits.promoted),
        "shards": [task.path.name for task in tasks],
        "plan": plan_digest,
    }
    with atomic_path(out / DATASET_FILE) as temporary:
        temporary.write_text(json.dumps(contents, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    current = {task.path for task in tasks}
    _remove(path for path in shard_files(out) if path not in current and is_shard(path))
    return summary


def _shard_tasks(plan: Plan, out: Path, config: Config, input_format: str | None) -> list[ShardTask]:
    settings = _settings(config)
    settings["prep"] = {key: settings["prep"][key] for key in settings["prep"].keys() - _SPLIT_SETTINGS}
    return [
        ShardTask(
            path=out / f"shard-{number:05d}.safetensors",
            sources=sources,
            config=config,
            input_format=input_format,
            fingerprint=_digest(
                [
                    SHARD_VERSION,
                    settings,
                    input_format,
                    [[s.name, s.speaker, s.relative, s.size_bytes, s.mtime_ns] for s in sources],
                ]
            ),
        )
        for number, sources in enumerate(group(plan.sources))
    ]


def _settings(config: Config) -> dict[str, Any]:
    return {table: getattr(config, table).model_dump() for table in ("mel", "signal", "prep")}


def _digest(contents: Any) -> str:
    return digest_of(json.dumps(contents, sort_keys=True).encode())


def _claim(
    out: Path, tasks: list[ShardTask], plan_digest: str, config: Config, *, overwrite: bool
) -> dict[str, Any]:
    """Make sure that `out` may be written; the dataset of the same plan that is there, or {}.

    Raises:
        OutputError: it holds files that are no dataset, one of them in a shard's place, or a dataset of
            another plan without `overwrite`.
    """
    with output_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        present = [entry for entry in out.iterdir() if not entry.name.startswith(".")]
    contents = out / DATASET_FILE
    if contents.exists():
        try:
            old = read_contents(out)
        except DatasetError as error:
            raise OutputError(str(error)) from error
        _require_own(tasks, old.get("shards"))
        if old.get("plan") == plan_digest:
            return old
        if not overwrite:
            raise OutputError(f"{out}: holds a dataset {_difference(old, config)}; {_OVERWRITE}")
        with output_errors(contents):
            contents.unlink()  # or an interruption would leave it with shards of another plan
    elif any(map(is_shard, shards := shard_files(out))):
        _require_own(tasks, [])
        found = {_fingerprint(shard) for shard in shards} - {None}
        if found and not overwrite and not found & {task.fingerprint for task in tasks}:
            raise OutputError(
                f"{out}: holds an unfinished dataset of other sources or settings; {_OVERWRITE}"
            )
    elif present:
        raise OutputError(
            f"{out}: is not empty and no dataset (it has {present[0].name}); choose a new folder"
        )
    return {}


def _require_own(tasks: list[ShardTask], listed: Any) -> None:
    """Make sure that every file in a shard's place is a shard, or was one as dataset.json has it.

    Raises:
        OutputError: it is another program's.
    """
    for task in tasks:
        known = isinstance(listed, list) and task.path.name in listed
        if task.path.exists() and not known and not is_shard(task.path):
            raise OutputError(f"{task.path}: not gru-audio's; choose a new folder, or move the file away")


_OVERWRITE = "choose another folder, or add --overwrite to replace it (what has not changed is kept)"


def _difference(old: dict[str, Any], config: Config) -> str:
    """How a dataset's settings differ from a config, or else its sources."""
    differing = [
        f"{table}.{key} {old.get(table, {}).get(key)}, now {value}"
        for table, settings in _settings(config).items()
        for key, value in settings.items()
        if old.get(table, {}).get(key) != value
    ]
    if differing:
        return f"made with other settings ({'; '.join(differing)})"
    return "made of other sources, or of files that have changed since"


def _remove(stale: Iterable[Path]) -> None:
    for shard in stale:
        with output_errors(shard):
            shard.unlink(missing_ok=True)


def _fingerprint(shard: Path) -> str | None:
    try:
        return read_header(shard).fingerprint
    except DamagedShardError:
        return None


@contextmanager
def _tidy(out: Path) -> Iterator[None]:
    """Remove what processes that were killed in the middle of writing have left, before and after."""

    def remove() -> None:
        for partial in (*out.glob(".shard-[0-9]*.partial.safetensors"), *out.glob(".dataset.*.partial.json")):
            with suppress(OSError):
                partial.unlink()

    remove()
    try:
        yield
    finally:
        remove()


def _make_shards(
    tasks: list[ShardTask], jobs: int | None, progress: ProgressCallback
) -> tuple[list[ShardHeader], int]:
    """The headers of all shards in order, and how many of them were kept from an earlier run."""
    started = time.monotonic()
    total = sum(len(task.sources) for task in tasks)
    headers: list[ShardHeader] = []
    files = kept = samples = fresh_samples = 0
    progress(Progress(0, total))
    with closing(map_in_order(make_shard, tasks, jobs)) as made:
        for task, (header, was_kept) in zip(tasks, made, strict=True):
            headers.append(header)
            files += len(task.sources)
            kept += was_kept
            samples += header.n_samples
            fresh_samples += 0 if was_kept else header.n_samples
            rate = task.config.mel.sample_rate_hz
            speed = fresh_samples / rate / max(time.monotonic() - started, 1e-9)
            figures = {
                "files": f"{files}/{total}",
                "audio": f"{samples / rate / 3600:.2f} h",
                "speed": f"{speed:.0f} x real time",
            }
            progress(Progress(files, total, figures))
    return headers, kept


def _summary(
    plan: Plan, headers: list[ShardHeader], kept: int, splits: Splits, sample_rate_hz: int
) -> Summary:
    clips = [clip for header in headers for clip in header.clips]
    paths = {source.name: readable(source.path) for source in plan.sources}
    alike: dict[str, list[str]] = {}
    for clip in clips:
        alike.setdefault(clip.digest, []).append(clip.name)
    counts = Counter(splits.of.values())
    return Summary(
        clips=len(clips),
        duration_s=sum(clip.n_samples for clip in clips) / sample_rate_hz,
        splits={split: counts[split] for split in SPLITS},
        speakers=dict(sorted(Counter(clip.speaker for clip in clips).items())),
        kept_shards=kept,
        made_shards=len(headers) - kept,
        skipped=(
            *((paths[name], reason) for header in headers for name, reason in header.skipped),
            *plan.unreadable,
        ),
        ignored=plan.ignored,
        clipped=tuple(clip.name for clip in clips if clip.full_scale_samples),
        duplicates=tuple(tuple(names) for names in alike.values() if len(names) > 1),
    )


def _totals(clips: list[ClipRecord], splits: Splits, summary: Summary, sample_rate_hz: int) -> dict[str, Any]:
    """Clips and hours in all, of each split and of each speaker."""

    def figures(chosen: list[ClipRecord]) -> dict[str, float]:
        hours = sum(clip.n_samples for clip in chosen) / sample_rate_hz / 3600
        return {"clips": len(chosen), "hours": round(hours, 4)}

    by_speaker: dict[str, list[ClipRecord]] = {speaker: [] for speaker in summary.speakers}
    for clip in clips:
        by_speaker[clip.speaker].append(clip)
    return {
        **figures(clips),
        "skipped": len(summary.skipped),
        "splits": {
            split: figures([clip for clip in clips if splits.of[clip.name] == split]) for split in SPLITS
        },
        "speakers": {speaker: figures(chosen) for speaker, chosen in by_speaker.items()},
    }
