"""How a run ended."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainResult:
    """How a run ended.

    Attributes:
        step: optimiser steps done in all.
        finished: all steps of the config were done, or `settled`.
        first_bits: validation bits a sample before the first step of this run.
        last_bits: validation bits a sample at the last validation.
        best_bits: the lowest so far, of those since blocks were last pruned; its weights are the run's voice.
        audio_s: seconds of audio trained on by this call.
        wall_s: seconds that this call took.
        stopped_by: the signal that stopped it, if one did.
        returns: how often the run diverged and went back to a checkpoint, since it began.
        notes: what else the user should know, each as a line.
        steps: how many the config wants in all.
        settled: free runs had stopped getting better before that; see `train.patience`.
        keeps_the_start: nothing was better than the voice that fine-tuning began with; that is the run's voice.
    """

    step: int
    finished: bool
    first_bits: float
    last_bits: float
    best_bits: float
    audio_s: float
    wall_s: float
    stopped_by: int | None = None
    returns: int = 0
    notes: tuple[str, ...] = ()
    steps: int = 0
    settled: bool = False
    keeps_the_start: bool = False
