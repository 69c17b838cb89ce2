"""A trainer's state as a checkpoint, and back."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from gru_audio.network.sparsity import RECURRENT_WEIGHT
from gru_audio.training.judging.free_running import Score
from gru_audio.training.recovery import Returns
from gru_audio.training.saved.checkpoint import Checkpoint

if TYPE_CHECKING:
    from gru_audio.training.trainer import Trainer


def checkpoint_of(trainer: Trainer) -> Checkpoint:
    """All that the run needs to go on exactly from here."""
    moments = {
        f"{name}/{key}": value
        for name, parameter in trainer.network.named_parameters()
        for key, value in trainer.optimizer.state[parameter].items()
    }
    document = {
        "config": trainer.config.model_dump(),
        "best_bits": trainer.judge.best_bits if math.isfinite(trainer.judge.best_bits) else None,
        "best_step": trainer.judge.best_step,
        "best_score": trainer.judge.best_score,
        "fine_tuned_from": trainer.judge.origin,
        "pruning_settled": trainer.pruning.settled,
        "watch": trainer.watch.state(),
        "returns": trainer.returns.state(),
        "dataset": trainer.dataset.fingerprint,
        "scaler": trainer.scaler.state_dict(),
    }
    groups = {
        "network": trainer.network.state_dict(),
        "average": trainer.average.state_dict(),
        "optimizer": moments,
        "masks": trainer.pruning.masks(),
    }
    return Checkpoint(trainer.step, groups, document)


def take_over(trainer: Trainer, checkpoint: Checkpoint) -> None:
    """Put a trainer where the checkpoint's was, whatever it has done since."""
    groups, document = checkpoint.groups, checkpoint.document
    trainer.network.load_state_dict(groups["network"])
    trainer.average.load_state_dict(groups["average"])
    moments = groups["optimizer"]
    trainer.optimizer.state.clear()
    for name, parameter in trainer.network.named_parameters() if moments else ():
        trainer.optimizer.state[parameter] = {
            key: moments[f"{name}/{key}"].to(trainer.device) for key in ("step", "exp_avg", "exp_avg_sq")
        }
    masks = groups.get("masks")
    kept = masks[RECURRENT_WEIGHT].to(trainer.device) if masks else None
    trainer.pruning.keep(kept, trainer.network, trainer.average)
    trainer.step = checkpoint.step
    best = document["best_bits"]
    trainer.judge.best_bits = math.inf if best is None else best
    trainer.judge.best_step = document.get("best_step", 0)  # not told by versions that did not prune
    score, trainer.judge.origin = document.get("best_score"), document.get("fine_tuned_from")
    trainer.judge.best_score = Score(*score) if score else None
    trainer.pruning.settled = document.get("pruning_settled", trainer.judge.origin is not None)
    if "watch" in document:  # nor these by versions that did not go back
        trainer.watch.restore(document["watch"])
        trainer.returns = Returns.restored(document["returns"])
    if document["scaler"]:  # empty where it was not in use: the precision may have changed
        trainer.scaler.load_state_dict(document["scaler"])
