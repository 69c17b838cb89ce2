"""How a run does: its figures while it trains, its validations and its free runs, each logged when it is due."""

import math
from collections.abc import Mapping

from gru_audio.config import Config
from gru_audio.training.judging.judge import Judge
from gru_audio.training.learner import Learner
from gru_audio.training.saved.metrics import MetricsLog, TrainingMeter


class Measuring:
    """Measures and logs what is due.

    Attributes:
        first_bits: validation bits a sample before the first step of this run.
        last_bits: the same at the last validation.
    """

    def __init__(self, config: Config, learner: Learner, judge: Judge) -> None:
        """Measure what learns, by a judge of its voices."""
        self._config, self._learner, self._judge = config, learner, judge
        self.first_bits, self.last_bits = math.nan, math.nan

    def measure_the_start(self, log: MetricsLog | None) -> None:
        """Measure before the first step; a process that does not lead has no log, and measures nothing."""
        if log is None:
            return
        step, judge = self._learner.step, self._judge
        # A resumed run measures where it stands, but logs and exports no more than an uninterrupted one.
        self.last_bits = judge.measure()["bits"] if step else judge.validate(log, 0)
        if not step and judge.origin is not None and judge.is_free_run_due(0):
            judge.free_run(log, 0)
        if math.isnan(self.first_bits):
            self.first_bits = self.last_bits

    def log_what_is_due(self, meter: TrainingMeter, log: MetricsLog) -> dict[str, float]:
        """Log the training's figures, those of a validation and of a free run; returns the first, empty if not due."""
        settings, learner, figures = self._config.train, self._learner, dict[str, float]()
        step = learner.step
        if step % settings.log_every == 0 or step == settings.steps:
            rate = learner.learning_rate(step)
            figures = {**meter.figures(), **learner.pruning.densities(), "learning_rate": rate}
            log.log("train", step, figures)
        with meter.paused():
            if self._judge.is_due(step):
                self.last_bits = self._judge.validate(log, step)
            if self._judge.is_free_run_due(step):
                self._judge.free_run(log, step)
        return figures

    def make_sure_of_a_voice(self, log: MetricsLog) -> None:
        """Validate out of turn where the run's folder has no voice yet."""
        if not self._judge.has_voice:
            self.last_bits = self._judge.validate(log, self._learner.step)

    def shown(self, figures: Mapping[str, float]) -> dict[str, str]:
        """The training's figures as a user is shown them, with the last validation's."""
        shown = {
            "loss": f"{figures['loss']:.3f}",
            "bits": f"{figures['bits']:.3f}",
            "valid": f"{self.last_bits:.3f}",
            "lr": f"{figures['learning_rate']:.1e}",
            "grad": f"{figures['gradient_norm']:.2f}",
            "speed": f"{figures['samples_per_s']:,.0f}/s ({figures['times_real_time']:.1f} x real time)",
        }
        returns = self._learner.returns
        if returns.times:
            shown["returns"] = f"{returns.times}, from step {returns.diverged_at:,}"
        return shown
