"""A run's checkpoints: when one is due, and what of the run it keeps."""

from collections.abc import Sequence
from pathlib import Path

from gru_audio.config import Config
from gru_audio.errors import CheckpointError
from gru_audio.training.saved.checkpoint import Checkpoint, PartState, SavedPart, save_checkpoint
from gru_audio.voice.run_folder import checkpoint_path


class Saver:
    """Writes a run's checkpoints, and puts the run where one was.

    Attributes:
        saved_step: of the last checkpoint, or of the last that another process wrote.
    """

    def __init__(self, run: Path, config: Config, fingerprint: str, parts: Sequence[SavedPart]) -> None:
        """Save parts of a run into its folder.

        Args:
            run: the folder.
            config: all settings.
            fingerprint: of the dataset.
            parts: what a checkpoint keeps; first the one that refuses a checkpoint that does not fit.
        """
        self._run, self._config, self._fingerprint, self._parts = run, config, fingerprint, parts
        self.saved_step = 0

    def is_due(self, step: int) -> bool:
        """Whether a step at which to save has come since the last checkpoint."""
        every = self._config.train.checkpoint_every
        return step // every > self.saved_step // every

    def save(self, step: int) -> Path:
        """Write a checkpoint: all that the run needs to go on exactly from here.

        Raises:
            OutputError: it cannot be written; the ones before stay.
        """
        own = PartState({"config": self._config.model_dump(), "dataset": self._fingerprint})
        checkpoint = Checkpoint.of(step, [own, *(part.state() for part in self._parts)])
        return save_checkpoint(self._run, checkpoint, self._config.train.checkpoints_kept)

    def restore(self, checkpoint: Checkpoint, but: SavedPart | None = None) -> None:
        """Put the run where the checkpoint's was, whatever it has done since; all parts but one, if one is named.

        Raises:
            CheckpointError: its tensors are not the network's, or its header lacks what a part keeps.
        """
        for part in self._parts:
            if part is but:
                continue
            try:
                part.restore(checkpoint)
            except KeyError as error:
                raise CheckpointError(
                    f"{checkpoint_path(self._run, checkpoint.step)}: damaged: its header lacks {error}; delete it, "
                    "and resume from the one before"
                ) from error
        self.saved_step = checkpoint.step
