"""What shows a run's figures: the interface, and the table of those there are.

One more is a class with these four methods and a line in `LOGGERS`.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from gru_audio.arrays import FloatArray
from gru_audio.config import Config
from gru_audio.files import output_errors
from gru_audio.progress import NoteCallback


class Logger(Protocol):
    """Shows figures and clips; all figures of it are finite."""

    def begin(self, from_step: int) -> None:
        """The run goes on after this step: what was shown beyond it holds no more. Called before all else, too."""

    def figures(self, group: str, step: int, figures: Mapping[str, float]) -> None:
        """The figures of a step under a group such as `"train"` or `"valid"`."""

    def clip(
        self, name: str, step: int, audio: FloatArray, sample_rate_hz: int, picture: npt.NDArray[np.uint8]
    ) -> None:
        """What was made of a clip: audio (n,) with full scale 1, and a picture (3, H, W)."""

    def close(self) -> None:
        """Write what is left."""


def _tensorboard(run: Path, _config: Config, _tell: NoteCallback) -> Logger:
    from gru_audio.training.loggers.tensorboard import TensorBoard

    return TensorBoard(run)


def _wandb(run: Path, config: Config, tell: NoteCallback) -> Logger:
    from gru_audio.training.loggers.weights_and_biases import WeightsAndBiases

    return WeightsAndBiases(run, config, tell)


LOGGERS: Mapping[str, Callable[[Path, Config, NoteCallback], Logger]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
}
"""By the name that `--log-to` takes: from a run's folder, its config and what tells the user."""

DEFAULT_LOGGERS = ("tensorboard",)


@contextlib.contextmanager
def open_loggers(
    names: Sequence[str], run: Path, config: Config, tell: NoteCallback
) -> Iterator[Sequence[Logger]]:
    """Loggers for a block, by their names in `LOGGERS`.

    Raises:
        OutputError: the disk is full.
        TrainingError: one cannot begin.
    """
    loggers: list[Logger] = []
    try:
        for name in dict.fromkeys(names):
            loggers.append(LOGGERS[name](run, config, tell))
        yield loggers
    except BaseException:
        # There is no second error to tell: a full disk comes up again when a file is closed.
        for logger in loggers:
            with contextlib.suppress(OSError):
                logger.close()
        raise
    for logger in loggers:
        with output_errors(run):
            logger.close()
