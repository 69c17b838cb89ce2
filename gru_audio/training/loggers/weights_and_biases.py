"""Weights & Biases: the run's figures on its server, or with WANDB_MODE=offline in the run's folder."""

import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gru_audio.arrays import FloatArray
from gru_audio.config import Config
from gru_audio.errors import TrainingError, first_line
from gru_audio.extras import require
from gru_audio.files import atomic_path, output_errors
from gru_audio.progress import NoteCallback

ID_FILE = ".wandb-id"
"""In a run's folder: its name on the server, under which it goes on when it is resumed."""

_PROJECT = "gru-audio"


class WeightsAndBiases:
    """A `Logger` of wandb. Where wandb fails later on, that is told and training goes on without it."""

    def __init__(self, run: Path, config: Config, tell: NoteCallback) -> None:
        """Begin a run of wandb's, or go on with it.

        Raises:
            MissingPackageError: the extra `wandb` is not installed.
            TrainingError: wandb cannot begin: nobody is logged in, for example.
        """
        require("wandb", "--log-to wandb")
        import wandb

        self._wandb, self._tell = wandb, tell
        try:
            self._run: Any = wandb.init(
                project=os.environ.get("WANDB_PROJECT", _PROJECT),
                name=run.resolve().name,
                id=_id_of(run),
                resume="allow",
                dir=str(run),
                config=config.model_dump(),
                settings=wandb.Settings(console="off", silent=True),
            )
            # Steps may come again after a return to a checkpoint, which wandb's own count does not allow.
            self._run.define_metric("*", step_metric="step")
        except Exception as error:  # wandb has several trees of them
            raise TrainingError(
                f"--log-to wandb: {first_line(error)}; run `wandb login`, or set WANDB_MODE=offline"
            ) from error
        if not self._run.offline:
            tell(f"wandb: {self._run.url}")

    def begin(self, from_step: int) -> None:
        """Nothing: what is logged of a step again stands beside what was."""

    def figures(self, group: str, step: int, figures: Mapping[str, float]) -> None:
        """Numbers by group and name, over `step`."""
        self._safely(
            lambda run: run.log(
                {"step": step, **{f"{group}/{name}": value for name, value in figures.items()}}
            )
        )

    def clip(
        self, name: str, step: int, audio: FloatArray, sample_rate_hz: int, picture: npt.NDArray[np.uint8]
    ) -> None:
        """A player and a picture."""
        self._safely(
            lambda run: run.log(
                {
                    "step": step,
                    f"{name}/audio": self._wandb.Audio(np.clip(audio, -1, 1), sample_rate=sample_rate_hz),
                    f"{name}/mel": self._wandb.Image(np.moveaxis(picture, 0, -1)),
                }
            )
        )

    def close(self) -> None:
        """Wait until all is sent, or written where it is offline."""
        self._safely(lambda run: run.finish())

    def _safely(self, act: Callable[[Any], None]) -> None:
        if self._run is None:
            return
        try:
            act(self._run)
        except Exception as error:  # a lost connection or service is no reason to lose hours of training
            self._run = None
            self._tell(f"wandb: {first_line(error)}; the run goes on without it")


def _id_of(run: Path) -> str:
    """The run's name on the server, made up when it is first asked for."""
    path = run / ID_FILE
    with output_errors(path):
        if path.is_file():
            return path.read_text(encoding="utf-8").strip()
    made_up = secrets.token_hex(4)
    with atomic_path(path) as temporary:
        temporary.write_text(made_up, encoding="utf-8")
    return made_up
