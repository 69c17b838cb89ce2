"""The settings of networks small enough to make hundreds of them in a test run."""

from gru_audio.config import Config, MelConfig, ModelConfig, SignalConfig, TrainConfig

N_MELS, RATE = 20, 8_000


def small_config(lpc_order: int = 8, bits: int = 8, *, hop_samples: int = 64, **model: object) -> Config:
    """A config at 8 kHz; `model` overrides the table of that name."""
    sizes = {"gru_size": 16, "conditioning_size": 12, "readout_size": 10, "pitch_size": 8}
    return Config(
        mel=MelConfig(
            sample_rate_hz=RATE,
            n_fft=256,
            window_samples=200,
            hop_samples=hop_samples,
            n_mels=N_MELS,
            f_max_hz=4_000.0,
        ),
        signal=SignalConfig(lpc_order=lpc_order, bits=bits),
        model=ModelConfig.model_validate({**sizes, **model}),
        train=TrainConfig(crop_samples=10 * hop_samples),
    )
