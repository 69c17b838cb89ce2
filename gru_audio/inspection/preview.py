"""What a preview says of audio and mels, and the whole picture: figures above, drawings below.

Everything maps arrays to figures or Rich text and prints nothing; see terminal_plot.py for the drawing.

Shapes: n samples, F frames, M mel bands.
"""

from dataclasses import dataclass
from math import ceil, log2

import numpy as np
from numpy.typing import NDArray
from rich.text import Text

from gru_audio.config import MelConfig
from gru_audio.inspection.terminal_plot import BOLD, duration_text, spectrogram, waveform
from gru_audio.signal.audio import FULL_SCALE, finite, peak_dbfs, resample, rms_dbfs
from gru_audio.signal.mel import log_mel
from gru_audio.signal.pitch import track_pitch

_Floats = NDArray[np.float32]

_PITCH_HZ = (50.0, 500.0)


@dataclass(frozen=True)
class AudioFigures:
    """What a preview says of audio; None where there is no such figure, as the level of silence."""

    name: str
    duration_s: float
    sample_rate_hz: int
    n_channels: int | None
    """In the file; the preview is of their mean. None where it is not known."""
    peak_dbfs: float | None
    rms_dbfs: float | None
    clipped_samples: int
    """Samples at full scale."""
    pitch_hz: float | None
    """Median over the voiced frames."""
    voiced_fraction: float | None


@dataclass(frozen=True)
class MelFigures:
    """What a preview says of a mel; its levels are in the unit that its contract stores."""

    name: str
    duration_s: float
    sample_rate_hz: int
    hop_samples: int
    n_frames: int
    n_mels: int
    level_min: float | None
    level_mean: float | None
    level_max: float | None


def describe_audio(
    name: str, audio: _Floats, sample_rate_hz: int, n_channels: int | None = None
) -> AudioFigures:
    """The figures of audio (n,); `n_channels` is how many its file has.

    Raises:
        AudioError: NaN or infinite samples.
    """
    lags, rate_hz = _pitch_lags(audio, sample_rate_hz)
    voiced = lags[lags > 0]
    return AudioFigures(
        name=name,
        duration_s=audio.size / sample_rate_hz,
        sample_rate_hz=sample_rate_hz,
        n_channels=n_channels,
        peak_dbfs=finite(peak_dbfs(audio)) if audio.size else None,
        rms_dbfs=finite(rms_dbfs(audio)) if audio.size else None,
        clipped_samples=int(np.count_nonzero(np.abs(audio) >= FULL_SCALE)),
        pitch_hz=float(rate_hz / np.median(voiced)) if voiced.size else None,
        voiced_fraction=voiced.size / lags.size if lags.size else None,
    )


def describe_mel(name: str, mel: _Floats, config: MelConfig) -> MelFigures:
    """The figures of a mel (F, M) made under `config`."""
    return MelFigures(
        name=name,
        duration_s=len(mel) * config.hop_samples / config.sample_rate_hz,
        sample_rate_hz=config.sample_rate_hz,
        hop_samples=config.hop_samples,
        n_frames=len(mel),
        n_mels=config.n_mels,
        level_min=float(mel.min()) if mel.size else None,
        level_mean=float(mel.mean(dtype=np.float64)) if mel.size else None,
        level_max=float(mel.max()) if mel.size else None,
    )


def display_mel(
    audio: _Floats, sample_rate_hz: int, n_columns: int, config: MelConfig | None = None
) -> tuple[_Floats, MelConfig]:
    """The mel to draw of audio (n,), which is resampled where the contract has another rate.

    Without `config` one is made for the eye: the whole band up to 24 kHz in 80 mels, windows of 50 ms, about
    four frames to each of `n_columns` columns.

    Returns:
        (F, M) and its contract; F = 0 for empty audio.

    Raises:
        AudioError: NaN or infinite samples.
    """
    if config is None:
        rate_hz = _contract_rate_hz(sample_rate_hz)
        window = rate_hz // 20
        hop = min(max(audio.size * rate_hz // (sample_rate_hz * 4 * n_columns), 2), window // 2) // 2 * 2
        config = MelConfig(
            sample_rate_hz=rate_hz,
            n_fft=1 << ceil(log2(window)),
            window_samples=window,
            hop_samples=hop,  # even, as n_fft is
            f_max_hz=rate_hz / 2,
        )
    audio = _at_rate(audio, sample_rate_hz, config.sample_rate_hz)
    return log_mel(np.pad(audio, (0, -audio.size % config.hop_samples)), config), config


def picture(
    figures: AudioFigures | MelFigures,
    mel: _Floats,
    config: MelConfig,
    width: int,
    height: int,
    colour: bool,
    audio: _Floats | None = None,
) -> Text:
    """Header, waveform and spectrogram of a clip, or header and spectrogram of a mel.

    Args:
        figures: what the header says.
        mel: (F, M) under `config`.
        config: its contract.
        width: columns that are not exceeded.
        height: rows that are not exceeded, from 12.
        colour: draw with blocks and 24-bit colours, not in ASCII.
        audio: (n,) of which the waveform is drawn; None for a mel.
    """
    parts = [header(figures, width, colour)]
    rows = height - parts[0].plain.count("\n") - 1
    if audio is not None:
        wave_rows = max(rows // 3, 4) // 2 * 2
        parts.append(waveform(audio, figures.sample_rate_hz, width, wave_rows, colour))
        rows -= wave_rows
    parts.append(spectrogram(mel, config, width, rows, colour, figures.duration_s))
    return Text("\n").join(parts)


def header(figures: AudioFigures | MelFigures, width: int, colour: bool) -> Text:
    """The name and the figures, in as few rows of at most `width` columns as they need."""
    facts = _audio_facts(figures) if isinstance(figures, AudioFigures) else _mel_facts(figures)
    name = Text(no_wrap=True, end="").append(figures.name, BOLD if colour else None)
    name.truncate(width, overflow="ellipsis" if colour else "crop")
    lines = [name]
    for fact in facts:
        if lines[-1].cell_len + 3 + len(fact) <= width:
            lines[-1].append("   " + fact)
        else:
            lines.append(Text(fact[:width]))
    return Text("\n").join(lines)


def _audio_facts(figures: AudioFigures) -> list[str]:
    facts = [duration_text(figures.duration_s), f"{figures.sample_rate_hz} Hz"]
    if figures.n_channels is not None:
        facts.append("mono" if figures.n_channels == 1 else f"{figures.n_channels} channels as mono")
    if figures.peak_dbfs is None or figures.rms_dbfs is None:
        return [*facts, "silent" if figures.duration_s else "no samples"]
    facts += [f"peak {figures.peak_dbfs:.1f} dBFS", f"RMS {figures.rms_dbfs:.1f} dBFS"]
    if figures.clipped_samples:
        facts.append(f"clipped {figures.clipped_samples} sample{'s' * (figures.clipped_samples > 1)}")
    if figures.pitch_hz is None or figures.voiced_fraction is None:
        return [*facts, "no pitch"]
    return [*facts, f"pitch {figures.pitch_hz:.0f} Hz", f"voiced {100 * figures.voiced_fraction:.0f} %"]


def _mel_facts(figures: MelFigures) -> list[str]:
    facts = [
        duration_text(figures.duration_s),
        f"{figures.sample_rate_hz} Hz",
        f"{figures.n_frames} frame{'s' * (figures.n_frames != 1)} of {figures.hop_samples} samples",
        f"{figures.n_mels} mels",
    ]
    if figures.level_min is None:
        return facts
    return [
        *facts,
        f"level {figures.level_min:.2f} to {figures.level_max:.2f}, mean {figures.level_mean:.2f}",
    ]


def _contract_rate_hz(rate_hz: int) -> int:
    """The nearest sample rate that a mel contract can have."""
    return min(max(rate_hz, 8_000), 48_000)


def _at_rate(audio: _Floats, from_hz: int, to_hz: int) -> _Floats:
    return resample(audio, from_hz, to_hz) if from_hz != to_hz and audio.size else audio


def _pitch_lags(audio: _Floats, sample_rate_hz: int) -> tuple[_Floats, int]:
    """(F,) pitch lags every 10 ms, and the rate at which they count samples."""
    rate_hz = _contract_rate_hz(sample_rate_hz)
    audio = _at_rate(audio, sample_rate_hz, rate_hz)
    hop = rate_hz // 100
    lags = track_pitch(
        audio,
        rate_hz,
        hop_samples=hop,
        n_frames=ceil(audio.size / hop),
        lag_min_samples=round(rate_hz / _PITCH_HZ[1]),
        lag_max_samples=round(rate_hz / _PITCH_HZ[0]),
    )
    return lags, rate_hz
