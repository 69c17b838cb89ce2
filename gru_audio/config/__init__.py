"""The settings: typed, frozen and strict; TOML in, TOML out."""

from gru_audio.config.file import (
    ALL_TABLES,
    PREP_TABLES,
    config_from_dict,
    has_mel,
    load_config,
    load_mel_config,
    preset_names,
    to_toml,
    which_preset_has,
    with_overrides,
)
from gru_audio.config.mel import MEL_PRESETS, MelConfig
from gru_audio.config.tables import CONTEXT_FRAMES, GATES, Config, ModelConfig, PrepConfig, SignalConfig
from gru_audio.config.training import Stage, TrainConfig

__all__ = [
    "ALL_TABLES",
    "CONTEXT_FRAMES",
    "GATES",
    "MEL_PRESETS",
    "PREP_TABLES",
    "Config",
    "MelConfig",
    "ModelConfig",
    "PrepConfig",
    "SignalConfig",
    "Stage",
    "TrainConfig",
    "config_from_dict",
    "has_mel",
    "load_config",
    "load_mel_config",
    "preset_names",
    "to_toml",
    "which_preset_has",
    "with_overrides",
]
