"""What a training run's folder holds, by name; without torch, so that `info` can tell it quickly."""

from pathlib import Path

CONFIG_FILE = "config.toml"
METRICS_FILE = "metrics.jsonl"
VOICE_FILE = "voice.safetensors"

_CHECKPOINT_FOLDER = "checkpoints"
_SAMPLE_FOLDER = "samples"


def checkpoint_path(run: Path, step: int) -> Path:
    """Where the checkpoint of a step goes."""
    return run / _CHECKPOINT_FOLDER / f"step-{step:09d}.safetensors"


def checkpoint_paths(run: Path) -> list[Path]:
    """The run's checkpoints, oldest first."""
    return sorted((run / _CHECKPOINT_FOLDER).glob("step-*.safetensors"))


def checkpoint_steps(run: Path) -> list[int]:
    """The steps at which the run's checkpoints were written, in order."""
    numbers = (path.stem.removeprefix("step-") for path in checkpoint_paths(run))
    return [int(number) for number in numbers if number.isdigit()]


def sample_path(run: Path, step: int, clip: str) -> Path:
    """Where the audio goes that the voice of a step makes of a clip."""
    return run / _SAMPLE_FOLDER / f"step-{step:09d}-{clip}.wav"


def reference_path(run: Path, clip: str) -> Path:
    """Where the clip itself goes, to compare with."""
    return run / _SAMPLE_FOLDER / f"reference-{clip}.wav"


def sample_paths(run: Path) -> dict[int, list[Path]]:
    """The audio that voices made, by their steps."""
    by_step: dict[int, list[Path]] = {}
    for path in sorted((run / _SAMPLE_FOLDER).glob("step-*-*.wav")):
        number = path.name.split("-")[1]
        if number.isdigit():
            by_step.setdefault(int(number), []).append(path)
    return by_step
