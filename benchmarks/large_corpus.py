"""How prep and a dataset's index grow with the corpus: time and memory, each measured in a process of its own.

    python benchmarks/large_corpus.py --clips 1000000 --planned 100000 --files 10000 100000 --added 1000

A made index of many clips is opened; a folder of many tiny files is planned, which is what prep does before it reads
one; folders of such files are prepared, and the largest is then added to. Prints the table of docs/large.md.
"""

import argparse
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import soundfile

from gru_audio.config import Config, load_config
from gru_audio.data.dataset import Dataset
from gru_audio.data.place import Part, settings_of
from gru_audio.data.prepare import prepare
from gru_audio.data.shard_making import group
from gru_audio.data.sources import plan_sources
from gru_audio.data.stored.contents import index_name
from gru_audio.data.stored.index_writer import index_writer
from gru_audio.data.stored.shards import ClipRecord, ShardHeader, shard_name

CLIPS_A_SHARD = 64
CLIPS_A_FOLDER = 1_000


def settings() -> Config:
    return load_config("voice-16k", ["prep.min_duration_s=0.05", "prep.trim_db=0.0"])


def make_index(folder: Path, n_clips: int) -> None:
    """A dataset whose index lists clips of 3.6 s in shards that are but holes in empty files."""
    config, folder_size = settings(), n_clips // CLIPS_A_SHARD
    folder.mkdir()
    with index_writer(folder) as writer:
        for number in range(folder_size):
            clips = tuple(
                ClipRecord(
                    f"reader_{at % 2_000:05}/chapter_{at // 100:06}/utterance_{at:07}",
                    f"reader_{at % 2_000:05}", f"{at:07}.flac", 57_600, f"{at:032x}", 0, f"{at:032x}",
                )
                for at in range(number * CLIPS_A_SHARD, (number + 1) * CLIPS_A_SHARD)
            )  # fmt: skip
            (folder / shard_name(number)).touch()
            writer.add(ShardHeader("", "00" * 16, clips, ()), 0)
        digest = writer.digest()
        writer.save(folder / index_name(digest))
    contents = {
        "format": "gru-audio dataset", "version": 2, "licence": "", "source_note": "", **settings_of(config),
        "parts": [Part("", "", folder_size)._asdict()], "index": digest,
    }  # fmt: skip
    (folder / "dataset.json").write_text(json.dumps(contents))


def make_files(folder: Path, first: int, stop: int) -> None:
    """Tones of 50 ms, each of another pitch, a thousand a folder."""
    for number in range(first, stop):
        place = folder / f"speaker {number // CLIPS_A_FOLDER:04}"
        if number % CLIPS_A_FOLDER == 0 or number == first:
            place.mkdir(parents=True, exist_ok=True)
        (place / f"{number:07}.wav").write_bytes(tone_file(80 + number % 997 / 5))


@cache
def tone_file(pitch_hz: float) -> bytes:
    file, t = io.BytesIO(), np.arange(800) / 16_000
    soundfile.write(file, 0.1 * np.sin(2 * np.pi * pitch_hz * t), 16_000, format="WAV")
    return file.getvalue()


def open_dataset(folder: Path) -> str:
    started = time.perf_counter()
    dataset = Dataset.open(folder)
    opened = time.perf_counter()
    train = dataset.clips("train")
    first, last = train[0], train[len(train) - 1]
    looked = time.perf_counter()
    assert first.name != last.name
    return f"opened in {opened - started:.2f} s, training clips chosen in {looked - opened:.2f} s more"


def plan_files(files: Path) -> str:
    started = time.perf_counter()
    plan = plan_sources([files])
    n_groups = sum(1 for _ in group(plan.sources))
    return f"{len(plan.sources):,} files in {n_groups:,} groups, {time.perf_counter() - started:.1f} s"


def prepare_files(files: Path, out: Path, append: bool) -> str:
    started = time.perf_counter()
    summary = prepare([files], out, settings(), jobs=1, append=append)
    return (
        f"{summary.clips:,} clips, {summary.made_shards:,} shards made, {summary.kept_shards:,} kept, "
        f"{time.perf_counter() - started:.1f} s"
    )


def measured(*arguments: str | Path) -> str:
    """What one of the tasks says, run in a process of its own, and its memory."""
    command = [sys.executable, __file__, "--task", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def run_task(arguments: Sequence[str]) -> None:
    name, *rest = arguments
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if name == "open":
        told = open_dataset(Path(rest[0]))
    elif name == "plan":
        told = plan_files(Path(rest[0]))
    else:
        told = prepare_files(Path(rest[0]), Path(rest[1]), name == "append")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"{told} | {peak / 1024:.0f} MiB, of which {before / 1024:.0f} before it began")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=1_000_000, help="of the made index")
    parser.add_argument("--planned", type=int, nargs="*", default=[10_000, 100_000], help="files to plan")
    parser.add_argument("--files", type=int, nargs="*", default=[10_000, 100_000], help="of each corpus")
    parser.add_argument("--added", type=int, default=1_000, help="files added to the last")
    parser.add_argument("--folder", type=Path, help="where to write; a temporary folder by default")
    parser.add_argument("--task", nargs="+", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.task:
        run_task(chosen.task)
        return
    with tempfile.TemporaryDirectory(dir=chosen.folder) as name:
        folder = Path(name)
        print("| what | how long | peak memory |\n| --- | --- | --- |")
        make_index(folder / "index", chosen.clips)
        size = sum(path.stat().st_size for path in (folder / "index").glob("index-*"))
        print(
            f"| open {chosen.clips:,} clips (index {size / 1e6:.0f} MB) | {measured('open', folder / 'index')} |"
        )
        for count in chosen.planned:
            make_files(folder / "planned", 0, count)
            print(f"| plan {count:,} files | {measured('plan', folder / 'planned')} |", flush=True)
        made = 0
        for count in chosen.files:
            make_files(folder / "files", made, count)
            made = count
            told = measured("prepare", folder / "files", folder / f"out-{count}")
            print(f"| prep of {count:,} files | {told} |", flush=True)
        make_files(folder / "files", made, made + chosen.added)
        told = measured("append", folder / "files", folder / f"out-{made}")
        print(f"| prep --append of {chosen.added:,} more | {told} |")


if __name__ == "__main__":
    main()
