"""What a training run's folder holds, by name; without torch, so that `info` can tell it quickly."""

import re
from pathlib import Path

from gru_audio.files import output_errors, require_replaceable, require_writable
from gru_audio.names import name_part

CONFIG_FILE = "config.toml"
METRICS_FILE = "metrics.jsonl"
VOICE_FILE = "voice.safetensors"

_CHECKPOINT_FOLDER = "checkpoints"
_SAMPLE_FOLDER = "samples"
_CHECKPOINT = re.compile(r"step-([0-9]{1,12})\.safetensors")
_SAMPLE = re.compile(r"step-([0-9]{1,12})-.*\.wav", re.DOTALL)


def checkpoint_path(run: Path, step: int) -> Path:
    """Where the checkpoint of a step goes."""
    return run / _CHECKPOINT_FOLDER / f"step-{step:09d}.safetensors"


def checkpoint_paths(run: Path) -> list[Path]:
    """The run's checkpoints, oldest first."""
    return [path for _, path in _numbered(run / _CHECKPOINT_FOLDER, _CHECKPOINT)]


def checkpoint_steps(run: Path) -> list[int]:
    """The steps at which the run's checkpoints were written, in order."""
    return [step for step, _ in _numbered(run / _CHECKPOINT_FOLDER, _CHECKPOINT)]


def sample_path(run: Path, step: int, clip: str) -> Path:
    """Where the audio goes that the voice of a step makes of a clip."""
    return run / _SAMPLE_FOLDER / f"step-{step:09d}-{name_part(clip)}.wav"


def reference_path(run: Path, clip: str) -> Path:
    """Where the clip itself goes, to compare with."""
    return run / _SAMPLE_FOLDER / f"reference-{name_part(clip)}.wav"


def sample_paths(run: Path) -> dict[int, list[Path]]:
    """The audio that voices made, by their steps."""
    by_step: dict[int, list[Path]] = {}
    for step, path in _numbered(run / _SAMPLE_FOLDER, _SAMPLE):
        by_step.setdefault(step, []).append(path)
    return by_step


def require_places(run: Path) -> None:
    """Make sure, before long work, that all of a run's files can be written: some are for the first time after hours.

    Raises:
        OutputError: something is in the place of a file or of a folder.
    """
    for name in (CONFIG_FILE, METRICS_FILE, VOICE_FILE):
        with output_errors(run / name):
            require_replaceable(run / name)
    for name in (_CHECKPOINT_FOLDER, _SAMPLE_FOLDER):
        require_writable(run / name)


def is_made_by_run(folder: Path) -> bool:
    """Whether a folder holds the audio that a run's voices made."""
    run = folder.parent
    return folder.name == _SAMPLE_FOLDER and (run / CONFIG_FILE).is_file() and (run / METRICS_FILE).is_file()


def _numbered(folder: Path, name: re.Pattern[str]) -> list[tuple[int, Path]]:
    """The files of a folder that are named so, by the number in the name."""
    matches = ((name.fullmatch(path.name), path) for path in folder.glob("step-*"))
    return sorted((int(match[1]), path) for match, path in matches if match is not None)
