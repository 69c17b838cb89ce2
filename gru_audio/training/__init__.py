"""Training: a dataset and a config in, a run's folder with checkpoints and a voice out."""

from gru_audio.training.run import train
from gru_audio.training.trainer import Trainer, TrainResult

__all__ = ["TrainResult", "Trainer", "train"]
