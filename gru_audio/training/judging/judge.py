"""Which of a run's voices is the best so far: its moving average measured at intervals, and written where it is."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from gru_audio.config import Config
from gru_audio.data.dataset import Dataset
from gru_audio.network.model import Network
from gru_audio.training.judging.exporting import voice_of
from gru_audio.training.judging.free_running import FreeRunning, Score
from gru_audio.training.judging.validation import Validation
from gru_audio.training.pruning import Pruning
from gru_audio.training.saved.checkpoint import Checkpoint, PartState
from gru_audio.training.saved.metrics import MetricsLog
from gru_audio.voice.run_folder import VOICE_FILE
from gru_audio.voice.voice import Voice, save_voice


class Judge:
    """Measures a run's moving average, and keeps the best as the run's voice.

    A voice from before the last pruning has weights that are gone since, so that any later one takes its place.

    Attributes:
        best_bits: the lowest validation bits a sample, at `best_step`.
        best_step: 0 where there is none, or where a fine-tuned voice is best as it began.
        best_score: of the best free run; while there is one of the weights that are left, and the run still runs free,
            the loss has no say in which voice is the run's.
        origin: the voice that the run was fine-tuned from, as its metadata tell it; None for none. What it began with
            is then the first that later ones must beat.
        free_running: None where that is off.
    """

    def __init__(
        self,
        dataset: Dataset,
        run: Path,
        config: Config,
        device: torch.device,
        average: Network,
        pruning: Pruning,
    ) -> None:
        """Draw the validation crops; `average` and `pruning` are the run's, and change as it goes on.

        Raises:
            DatasetError: the dataset does not fit the config.
        """
        self._dataset, self._run, self._config = dataset, run, config
        self._average, self._pruning = average, pruning
        self._validation = Validation(dataset, config, device)
        self.best_bits, self.best_step = math.inf, 0
        self.best_score: Score | None = None
        self.origin: Mapping[str, Any] | None = None
        self.free_running: FreeRunning | None = None

    def state(self) -> PartState:
        """What a checkpoint keeps of it."""
        return PartState(
            {
                "best_bits": self.best_bits if math.isfinite(self.best_bits) else None,
                "best_step": self.best_step,
                "best_score": self.best_score,
                "fine_tuned_from": self.origin,
            }
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Take over what a checkpoint kept."""
        kept = checkpoint.document
        self.origin = kept.get("fine_tuned_from")
        if not self.has_voice:  # it was removed: the next one is the best
            return
        bits, score = kept["best_bits"], kept.get("best_score")
        self.best_bits = math.inf if bits is None else bits
        self.best_step = kept.get("best_step", 0)  # not told by versions that did not prune
        self.best_score = Score(*score) if score else None

    @property
    def has_voice(self) -> bool:
        """Whether the run's folder has one."""
        return (self._run / VOICE_FILE).exists()

    def is_due(self, step: int) -> bool:
        """Whether to validate after so many steps."""
        return step % self._config.train.valid_every == 0 or step == self._config.train.steps

    def is_free_run_due(self, step: int) -> bool:
        """Whether to run free after so many steps."""
        if self.free_running is None:
            return False
        return step % self._config.train.free_running_every == 0 or step == self._config.train.steps

    def is_settled(self, step: int) -> bool:
        """Whether `train.patience` free runs in a row were no better than the best of the voice as it is pruned now.

        Not before one was better than the voice that fine-tuning began with: what it gains may come as the rate falls.
        """
        settings, best = self._config.train, self._score_to_beat(step)
        if not settings.patience or best is None or not best.step:
            return False
        return step - best.step >= settings.patience * settings.free_running_every

    def measure(self) -> dict[str, float]:
        """Teacher-forced figures of the moving average on the validation crops."""
        return self._validation.measure(self._average)

    def keeps_the_start(self, step: int) -> bool:
        """Whether nothing so far was better than the voice that fine-tuning began with, and the run's voice is that."""
        if self.origin is None or self._pruning.last_choice(step):
            return False
        return not (self.best_step if self.best_score is None else self.best_score.step)

    def validate(self, log: MetricsLog, step: int) -> float:
        """Measure and log; the best voice so far is written to the run's folder. Returns the bits a sample."""
        figures = self.measure()
        log.log("valid", step, figures)
        has_best = self.best_step >= self._pruning.last_choice(step)
        is_candidate = step or self.origin is not None  # random weights are no voice
        if is_candidate and figures["bits"] < (self.best_bits if has_best else math.inf):
            self.best_bits, self.best_step = figures["bits"], step
            if self.free_running is None or self._score_to_beat(step) is None:
                self.export(step, figures)
        return figures["bits"]

    def free_run(self, log: MetricsLog, step: int) -> None:
        """Let the moving average make the held-out clips, measure and log them; the best so far is the run's voice."""
        assert self.free_running is not None
        made = self.free_running.run(self._voice(step, {}))
        log.log("free_running", step, made.figures)
        score = Score.of(made.figures, step)
        if score is not None and score.beats(self._score_to_beat(step)):
            self.best_score = score
            self.export(step, {**self.measure(), **made.figures})
        keep = [] if self.best_score is None else [self.best_score.step]
        self.free_running.save(self._run, made, step, keep, self._config.train.checkpoints_kept)
        pictures, rate = self.free_running.pictures(made), self._config.mel.sample_rate_hz
        for clip, audio, picture in zip(self.free_running.clips, made.audio, pictures, strict=True):
            log.log_clip(f"free_running/{clip.name}", step, audio, rate, picture)

    def export(self, step: int, figures: Mapping[str, float]) -> None:
        """Write the moving average as the run's voice."""
        save_voice(self._run / VOICE_FILE, self._voice(step, figures))

    def _score_to_beat(self, step: int) -> Score | None:
        """The best free run's, where it was of the weights that are left."""
        best = self.best_score
        return best if best is not None and best.step >= self._pruning.last_choice(step) else None

    def _voice(self, step: int, figures: Mapping[str, float]) -> Voice:
        return voice_of(self._average, self._config, self._dataset, step, figures, self.origin)
