"""TensorBoard: events in the run's folder."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch.utils.tensorboard import SummaryWriter

from gru_audio.arrays import FloatArray


class TensorBoard:
    """A `Logger` whose events are in RUN/tensorboard."""

    def __init__(self, run: Path) -> None:
        """Write nothing yet."""
        self._folder = run / "tensorboard"
        self._board: SummaryWriter | None = None

    def begin(self, from_step: int) -> None:
        """A new file of events; those of later steps are not shown any more."""
        self.close()
        self._board = SummaryWriter(str(self._folder), purge_step=from_step + 1)

    def figures(self, group: str, step: int, figures: Mapping[str, float]) -> None:
        """Scalars."""
        assert self._board is not None
        for name, value in figures.items():
            self._board.add_scalar(f"{group}/{name}", value, step)

    def clip(
        self, name: str, step: int, audio: FloatArray, sample_rate_hz: int, picture: npt.NDArray[np.uint8]
    ) -> None:
        """A player and a picture."""
        assert self._board is not None
        self._board.add_audio(name, np.clip(audio, -1, 1)[None], step, sample_rate_hz)
        self._board.add_image(name, picture, step)

    def close(self) -> None:
        """Write what is left."""
        if self._board is not None:
            self._board.close()
