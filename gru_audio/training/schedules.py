"""What changes over a run's steps."""

import math

from gru_audio.config import TrainConfig


def learning_rate(settings: TrainConfig, step: int) -> float:
    """The rate of step 1, 2, …: a linear warm-up, then half a cosine down to the final rate at the last step.

    Source: Loshchilov & Hutter, SGDR (2017), eq. 5, one period.
    """
    if step <= settings.warm_up_steps:
        return settings.learning_rate * step / settings.warm_up_steps
    done = (step - settings.warm_up_steps) / max(1, settings.steps - settings.warm_up_steps)
    swing = 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    return settings.final_learning_rate + (settings.learning_rate - settings.final_learning_rate) * swing
