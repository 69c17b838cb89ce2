"""The mel contract: how a log-mel spectrogram is made from audio, and the contracts that other tools keep."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from gru_audio.config.bounds import Fraction, Positive, PositiveFloat, Table

_LEAST_BINS = 4  # fewer hold no bands
MOST_WINDOWS = 64
"""That cover a sample: memory and time grow with them."""


class MelConfig(Table):
    """How a log-mel spectrogram is made from audio: the mel contract (docs/design.md, 3).

    The stored value is `scale * log(max(mel, floor)) + offset`, where `mel` is the filterbank applied to
    the short-time spectrum's magnitude or power.
    """

    sample_rate_hz: Annotated[int, Field(ge=8_000, le=48_000)] = 16_000
    """Of the audio, and of all that is synthesized."""
    n_fft: Annotated[int, Field(ge=64, le=16_384)] = 1024
    """Samples of the Fourier transform; even."""
    window_samples: Positive = 800
    """Samples of the Hann window, in the middle of the transform; at most `n_fft`."""
    hop_samples: Positive = 200
    """Samples from one frame to the next; at most `window_samples`, and at least a 64th of it."""
    n_mels: Annotated[int, Field(ge=8, le=512)] = 80
    """Mel bands."""
    f_min_hz: Annotated[float, Field(ge=0)] = 0.0
    """Where the lowest band begins."""
    f_max_hz: PositiveFloat = 8_000.0
    """Where the highest band ends; at most half the sample rate."""
    spectrum: Literal["magnitude", "power"] = "magnitude"
    """What the filterbank is applied to."""
    filter_norm: Literal["slaney", "none"] = "slaney"
    """Filters of equal area (`"slaney"`), or of equal height."""
    mel_scale: Literal["slaney", "htk"] = "slaney"
    """Which of the two common mel scales."""
    log: Literal["ln", "log10", "db"] = "ln"
    """Natural, to the base 10, or in decibels (20 log10 of a magnitude, 10 log10 of a power)."""
    floor: Annotated[float, Field(ge=1e-30, le=1)] = 1e-5
    """The least value of a band before the logarithm."""
    scale: Annotated[float, Field(ge=1e-6, le=1e6)] = 1.0
    """Factor of the logarithm."""
    offset: Annotated[float, Field(ge=-1e6, le=1e6)] = 0.0
    """What is added after it."""
    preemphasis: Fraction = 0.0
    """Of the audio before the analysis; 0: none."""
    padding: Literal["same", "center"] = "same"
    """Where frame 0 stands: over the first hop (`"same"`), or around sample 0 (`"center"`)."""

    @model_validator(mode="after")
    def _fits_together(self) -> "MelConfig":
        if self.window_samples > self.n_fft:
            raise ValueError(f"window_samples ({self.window_samples}) must not exceed n_fft ({self.n_fft})")
        if self.hop_samples > self.window_samples:
            raise ValueError(
                f"hop_samples ({self.hop_samples}) must not exceed window_samples ({self.window_samples})"
            )
        if self.hop_samples * MOST_WINDOWS < self.window_samples:
            raise ValueError(
                f"hop_samples ({self.hop_samples}) must be at least window_samples "
                f"({self.window_samples}) / {MOST_WINDOWS}"
            )
        if self.n_fft % 2:
            raise ValueError(f"n_fft ({self.n_fft}) must be even")
        if self.padding == "same" and (self.n_fft - self.hop_samples) % 2:
            raise ValueError(
                f"n_fft - hop_samples ({self.n_fft} - {self.hop_samples}) must be even with padding 'same', which adds "
                "half of it at each end; with 'center' it need not be"
            )
        if not self.f_min_hz < self.f_max_hz <= self.sample_rate_hz / 2:
            raise ValueError(
                f"f_min_hz ({self.f_min_hz:g}) < f_max_hz ({self.f_max_hz:g}) <= half the sample rate "
                f"({self.sample_rate_hz / 2:g}) must hold"
            )
        least_hz = _LEAST_BINS * self.sample_rate_hz / self.n_fft
        if self.f_max_hz - self.f_min_hz < least_hz:
            raise ValueError(
                f"f_min_hz ({self.f_min_hz:g}) to f_max_hz ({self.f_max_hz:g}) must be at least {least_hz:g} Hz, "
                f"{_LEAST_BINS} of the transform's bins"
            )
        return self

    @property
    def frame_rate_hz(self) -> float:
        """Mel frames a second."""
        return self.sample_rate_hz / self.hop_samples

    @property
    def spectrum_power(self) -> int:
        """Of magnitudes, what the filterbank is applied to: 1 or 2, as librosa's and torchaudio's `power`."""
        return 2 if self.spectrum == "power" else 1

    @property
    def lead_samples(self) -> int:
        """How far before the audio's first sample the stretch of frame 0 begins.

        A frame stands for the `hop_samples` around its window's middle. With padding "same" frame 0's
        stretch begins at sample 0; with "center" its window is centred on sample 0, half a hop later.
        """
        return self.hop_samples // 2 if self.padding == "center" else 0


_TORCHAUDIO_24K: dict[str, Any] = {
    "sample_rate_hz": 24_000,
    "window_samples": 1024,
    "hop_samples": 256,
    "n_mels": 100,
    "f_max_hz": 12_000.0,
    "filter_norm": "none",
    "mel_scale": "htk",
    "padding": "center",
}
"""torchaudio.transforms.MelSpectrogram with power 1 and, else, its defaults."""

MEL_PRESETS: dict[str, MelConfig] = {
    "speech-16k": MelConfig(),
    # HiFi-GAN's meldataset.py: |STFT| without centring, reflect-padded, ln clamped at 1e-5.
    "hifigan-22k": MelConfig(sample_rate_hz=22_050, window_samples=1024, hop_samples=256),
    # NVIDIA Tacotron 2's layers.py: the same filterbank and log on a centred STFT.
    "tacotron2-22k": MelConfig(sample_rate_hz=22_050, window_samples=1024, hop_samples=256, padding="center"),
    # UniversalVocoding 0.1's utils.py: decibels of a pre-emphasised magnitude, mapped from [-100, 0] to
    # [0, 1]; that it cuts what is above 1 is left out. (0.2 scales its filters in a third way.)
    "univoc-16k": MelConfig(
        n_fft=2048, f_min_hz=50.0, log="db", scale=1 / 100, offset=1.0, preemphasis=0.97, padding="center"
    ),
    # Vocos' released 24 kHz model: torchaudio's filters as they come, ln clamped at 1e-7.
    "vocos-24k": MelConfig(**_TORCHAUDIO_24K, floor=1e-7),
    # F5-TTS' modules.py, mel_spec_type "vocos": the same, clamped at 1e-5.
    "f5-tts-24k": MelConfig(**_TORCHAUDIO_24K, floor=1e-5),
    # ParallelWaveGAN's preprocess.py with its 24 kHz recipes, ESPnet's too: log10 of a magnitude. They go on to bring
    # each band to mean 0 and deviation 1 with a table of the corpus; undo that first.
    "espnet-24k": MelConfig(
        sample_rate_hz=24_000,
        n_fft=2048,
        window_samples=1200,
        hop_samples=300,
        f_min_hz=80.0,
        f_max_hz=7_600.0,
        log="log10",
        floor=1e-10,
        padding="center",
    ),
    # fatchord's WaveRNN, utils/dsp.py: decibels mapped from [-100, 0] to [0, 1], without its cut above 1.
    "wavernn-22k": MelConfig(
        sample_rate_hz=22_050,
        n_fft=2048,
        window_samples=1100,
        hop_samples=275,
        f_min_hz=40.0,
        f_max_hz=11_025.0,
        log="db",
        scale=1 / 100,
        offset=1.0,
        padding="center",
    ),
    # Coqui's and Mozilla's audio processor as it is configured by default: decibels less 20, mapped from [-100, 0] to
    # [-4, 4], without its cut above 4.
    "coqui-22k": MelConfig(
        sample_rate_hz=22_050,
        window_samples=1024,
        hop_samples=256,
        f_max_hz=11_025.0,
        log="db",
        floor=1e-4,
        scale=8 / 100,
        offset=2.4,
        padding="center",
    ),
    # SpeechBrain's HifiGAN.py with its 16 kHz models: HiFi-GAN's filterbank and log on a centred STFT.
    "speechbrain-16k": MelConfig(window_samples=1024, hop_samples=256, padding="center"),
    # Whisper's audio.py: power, log10, (x + 4) / 4. What it lifts to 8 below a clip's loudest value is left out.
    "whisper-16k": MelConfig(
        n_fft=400,
        window_samples=400,
        hop_samples=160,
        spectrum="power",
        log="log10",
        floor=1e-10,
        scale=1 / 4,
        offset=1.0,
        padding="center",
    ),
}
"""Contracts by name; each is compared with what its owner's own code gives in tests/signal/test_mel_peers.py."""
