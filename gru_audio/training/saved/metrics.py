"""A run's figures: gathered over steps, and logged to metrics.jsonl and to where else they are shown."""

import contextlib
import json
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gru_audio.arrays import FloatArray
from gru_audio.config import Config
from gru_audio.files import atomic_path, output_errors
from gru_audio.training.loggers.logger import Logger
from gru_audio.training.objective import Losses, bits
from gru_audio.voice.run_folder import METRICS_FILE
from gru_audio.voice.run_log import read_log


class MetricsLog:
    """Appends figures to a run's log; a context manager."""

    def __init__(self, run: Path, from_step: int, loggers: Sequence[Logger] = ()) -> None:
        """Open the log of a run that goes on after `from_step`; what was logged beyond it is dropped.

        Args:
            run: its folder.
            from_step: -1 where it begins.
            loggers: are told, too; they are the caller's to close.

        Raises:
            OutputError: the run's folder cannot be written.
        """
        self._path, self._loggers = run / METRICS_FILE, loggers
        if self._path.exists():
            with output_errors(self._path):
                kept = [json.dumps(line) for line in read_log(run) if line["step"] <= from_step]
            with atomic_path(self._path) as temporary:
                temporary.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
        with output_errors(self._path):
            self._file = self._path.open("a", encoding="utf-8", buffering=1)
        try:
            with output_errors(run):
                for logger in loggers:
                    logger.begin(from_step)
        except BaseException:
            self._file.close()
            raise

    def log(self, group: str, step: int, figures: dict[str, float]) -> None:
        """Add the figures of a step under a group such as `"train"` or `"valid"`.

        Raises:
            OutputError: the disk is full.
        """
        known = {name: value for name, value in figures.items() if math.isfinite(value)}
        with output_errors(self._path):
            self._file.write(json.dumps({"step": step, "group": group, **known}) + "\n")
            for logger in self._loggers:
                logger.figures(group, step, known)

    def log_clip(
        self, name: str, step: int, audio: FloatArray, sample_rate_hz: int, picture: npt.NDArray[np.uint8]
    ) -> None:
        """Show what was made of a clip: audio (n,), and a picture (3, H, W).

        Raises:
            OutputError: the disk is full.
        """
        with output_errors(self._path):
            for logger in self._loggers:
                logger.clip(name, step, audio, sample_rate_hz, picture)

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # After an error there is no second one to tell: a full disk comes up again when the file is closed.
        with output_errors(self._path) if error is None else contextlib.suppress(OSError):
            self._file.close()


class TrainingMeter:
    """Figures over the steps since they were last asked for."""

    _sums: Tensor

    def __init__(self, config: Config) -> None:
        """Start counting."""
        self._rate = config.mel.sample_rate_hz
        self._reset()

    def add(self, losses: Losses, gradient_norm: Tensor, n_samples: int) -> None:
        """Count a step on so many samples; nothing is read back from the device."""
        self._n_steps += 1
        self._n_samples += n_samples
        values = torch.stack([losses.nats, losses.pitch, gradient_norm]).detach()
        self._sums = values if self._n_steps == 1 else self._sums + values

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """A block whose time is not spent on training."""
        paused = time.perf_counter()
        yield
        self._began += time.perf_counter() - paused

    def figures(self) -> dict[str, float]:
        """Means over the steps, and samples a second."""
        nats, pitch, norm = (self._sums / self._n_steps).tolist()
        speed = self._n_samples / (time.perf_counter() - self._began)
        self._reset()
        return {
            "loss": nats,
            "bits": bits(nats),
            "pitch_loss": pitch,
            "gradient_norm": norm,
            "samples_per_s": speed,
            "times_real_time": speed / self._rate,
        }

    def _reset(self) -> None:
        self._n_steps, self._n_samples, self._began = 0, 0, time.perf_counter()
        self._sums = torch.zeros(3)
