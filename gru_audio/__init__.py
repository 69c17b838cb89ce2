"""gru-audio: a GRU vocoder that generates speech one sample at a time from a log-mel spectrogram.

    import gru_audio

    vocoder = gru_audio.load("runs/mine/voice.safetensors")
    mel = vocoder.mel(audio, sample_rate)    # (n_frames, n_mels) float32
    audio = vocoder.synthesize(mel, seed=0)  # (n_frames * hop,) float32

Nothing heavy is imported until a name is used.
"""

from typing import TYPE_CHECKING, Any

from gru_audio.errors import (
    AudioError,
    CheckpointError,
    ClusterError,
    ConfigError,
    DatasetError,
    GruAudioError,
    MelError,
    MissingPackageError,
    OutputError,
    TrainingError,
)

if TYPE_CHECKING:
    from gru_audio.config import Config, MelConfig, load_config
    from gru_audio.synthesis.sampling import Sampling
    from gru_audio.synthesis.vocoder import Vocoder, load

__version__ = "0.2.0"

__all__ = [
    "AudioError",
    "CheckpointError",
    "ClusterError",
    "Config",
    "ConfigError",
    "DatasetError",
    "GruAudioError",
    "MelConfig",
    "MelError",
    "MissingPackageError",
    "OutputError",
    "Sampling",
    "TrainingError",
    "Vocoder",
    "__version__",
    "load",
    "load_config",
]

_HOMES = {
    "Config": "gru_audio.config",
    "MelConfig": "gru_audio.config",
    "load_config": "gru_audio.config",
    "Sampling": "gru_audio.synthesis.sampling",
    "Vocoder": "gru_audio.synthesis.vocoder",
    "load": "gru_audio.synthesis.vocoder",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its module when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module 'gru_audio' has no attribute '{name}'")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
