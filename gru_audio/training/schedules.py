"""What changes over a run's steps. All of it follows from the step alone, so that a resumed run goes on exactly."""

import math

from gru_audio.config import TrainConfig


def learning_rate(settings: TrainConfig, step: int) -> float:
    """The rate of step 1, 2, …: a linear warm-up, then down to the final rate at the last step.

    The way down is half a cosine, over all steps that are left or, with the schedule "decay", over the last
    `decay_share` of the run.

    Source: Loshchilov & Hutter, SGDR (2017), eq. 5, one period; Hägele et al., Scaling Laws and Compute-Optimal
    Training Beyond Fixed Training Durations (2024), for constant with a decay at the end.
    """
    if step <= settings.warm_up_steps:
        return settings.learning_rate * step / settings.warm_up_steps
    falls_from = settings.warm_up_steps
    if settings.learning_rate_schedule == "decay":
        falls_from = max(falls_from, round((1 - settings.decay_share) * settings.steps))
    done = (step - falls_from) / max(1, settings.steps - falls_from)
    swing = 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, done))))
    return settings.final_learning_rate + (settings.learning_rate - settings.final_learning_rate) * swing


def average_decay(settings: TrainConfig, step: int) -> float:
    """What is left of the moving average after step 1, 2, …: little at first, so that it soon forgets the start.

    Source: TensorFlow's ExponentialMovingAverage with `num_updates`.
    """
    return min(settings.average_decay, (1 + step) / (10 + step))


def samples_of_steps(settings: TrainConfig, first: int, last: int) -> int:
    """Samples trained on from after `first` steps until `last` are done, whatever the stages between."""
    begins = [stage.from_step for stage in settings.all_stages]
    total = 0
    for stage, end in zip(settings.all_stages, [*begins[1:], last], strict=True):
        n_steps = max(0, min(end, last) - max(stage.from_step, first))
        total += n_steps * stage.batch_size * stage.crop_samples
    return total
