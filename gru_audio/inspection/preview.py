"""What a preview says of audio and mels, and the whole picture: figures above, drawings below.

Everything maps arrays to figures or Rich text and prints nothing; see terminal_plot.py for the drawing.

Shapes: n samples, F frames, M mel bands.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, log2

import numpy as np
from rich.text import Text

from gru_audio.arrays import FloatArray
from gru_audio.config import MelConfig
from gru_audio.config.mel import MOST_WINDOWS
from gru_audio.inspection.facts import AudioFacts, MelFacts
from gru_audio.inspection.terminal_plot import BOLD, duration_text, plot_columns, spectrogram, waveform
from gru_audio.signal.audio import resample
from gru_audio.signal.mel import log_mel
from gru_audio.signal.pitch import track_pitch

_PITCH_HZ = (50.0, 500.0)


@dataclass(frozen=True)
class PitchFacts:
    """The pitch of audio; None where no frame is voiced, or there is none."""

    pitch_hz: float | None
    """Median over the voiced frames."""
    voiced_fraction: float | None

    @classmethod
    def of(cls, audio: FloatArray, sample_rate_hz: int) -> "PitchFacts":
        """Track the pitch of audio (n,).

        Raises:
            AudioError: NaN or infinite samples.
        """
        lags, rate_hz = _pitch_lags(audio, sample_rate_hz)
        voiced = lags[lags > 0]
        return cls(
            float(rate_hz / np.median(voiced)) if voiced.size else None,
            voiced.size / lags.size if lags.size else None,
        )


def display_mel(
    audio: FloatArray, sample_rate_hz: int, n_columns: int, config: MelConfig | None = None
) -> tuple[FloatArray, MelConfig]:
    """The mel to draw of audio (n,), which is resampled where the contract has another rate.

    Without `config` one is made for the eye: the whole band up to 24 kHz in 80 mels, windows of 50 ms, or less for
    clips of a few milliseconds, and about four frames to each of `n_columns` columns.

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
            window_samples=min(window, MOST_WINDOWS * hop),
            hop_samples=hop,  # even, as n_fft is
            f_max_hz=rate_hz / 2,
        )
    audio = _at_rate(audio, sample_rate_hz, config.sample_rate_hz)
    return log_mel(np.pad(audio, (0, -audio.size % config.hop_samples)), config), config


def audio_picture(
    name: str,
    audio: FloatArray,
    facts: AudioFacts,
    contract: MelConfig | None,
    width: int,
    height: int,
    colour: bool,
) -> Text:
    """Header, waveform and spectrogram of audio (n,).

    Args:
        name: heads it.
        audio: what is drawn.
        facts: of it.
        contract: of the mel to draw; None for one that suits the eye.
        width: columns that are not exceeded.
        height: rows that are not exceeded, from 12.
        colour: draw with blocks and 24-bit colours, not in ASCII.

    Raises:
        AudioError: NaN or infinite samples.
    """
    mel, contract = display_mel(audio, facts.sample_rate_hz, plot_columns(width), contract)
    told = audio_words(facts, PitchFacts.of(audio, facts.sample_rate_hz))
    head = header(name, told, width, colour)
    rows = height - _n_lines(head)
    wave_rows = max(rows // 3, 4) // 2 * 2
    wave = waveform(audio, facts.sample_rate_hz, width, wave_rows, colour)
    below = spectrogram(mel, contract, width, rows - wave_rows, colour, facts.duration_s)
    return Text("\n").join([head, wave, below])


def mel_picture(
    name: str, mel: FloatArray, contract: MelConfig, width: int, height: int, colour: bool
) -> Text:
    """Header and spectrogram of a mel (F, M); the arguments are as those of `audio_picture`."""
    facts = MelFacts.of(mel, contract)
    head = header(name, mel_words(facts, contract), width, colour)
    rows = height - _n_lines(head)
    return Text("\n").join([head, spectrogram(mel, contract, width, rows, colour, facts.duration_s or 0)])


def header(name: str, told: Sequence[str], width: int, colour: bool) -> Text:
    """The name and what is told, in as few rows of at most `width` columns as they need."""
    first = Text(no_wrap=True, end="").append(name, BOLD if colour else None)
    first.truncate(width, overflow="ellipsis" if colour else "crop")
    lines = [first]
    for words in told:
        if lines[-1].cell_len + 3 + len(words) <= width:
            lines[-1].append("   " + words)
        else:
            lines.append(Text(words[:width]))
    return Text("\n").join(lines)


def audio_words(facts: AudioFacts, pitch: PitchFacts) -> list[str]:
    """What the header of audio tells."""
    told = [duration_text(facts.duration_s), f"{facts.sample_rate_hz} Hz"]
    if facts.n_channels is not None:
        told.append("mono" if facts.n_channels == 1 else f"{facts.n_channels} channels as mono")
    if facts.peak_dbfs is None or facts.rms_dbfs is None:
        return [*told, "silent" if facts.duration_s else "no samples"]
    told += [f"peak {facts.peak_dbfs:.1f} dBFS", f"RMS {facts.rms_dbfs:.1f} dBFS"]
    if facts.clipped_samples:
        told.append(f"clipped {facts.clipped_samples} sample{'s' * (facts.clipped_samples > 1)}")
    if pitch.pitch_hz is None or pitch.voiced_fraction is None:
        return [*told, "no pitch"]
    return [*told, f"pitch {pitch.pitch_hz:.0f} Hz", f"voiced {100 * pitch.voiced_fraction:.0f} %"]


def mel_words(facts: MelFacts, contract: MelConfig) -> list[str]:
    """What the header of a mel tells."""
    told = [
        duration_text(facts.duration_s or 0),
        f"{contract.sample_rate_hz} Hz",
        f"{facts.n_frames} frame{'s' * (facts.n_frames != 1)} of {contract.hop_samples} samples",
        f"{facts.n_mels} mels",
    ]
    if facts.level_min is None:
        return told
    return [*told, f"level {facts.level_min:.2f} to {facts.level_max:.2f}, mean {facts.level_mean:.2f}"]


def _n_lines(text: Text) -> int:
    return text.plain.count("\n") + 1


def _contract_rate_hz(rate_hz: int) -> int:
    """The nearest sample rate that a mel contract can have."""
    return min(max(rate_hz, 8_000), 48_000)


def _at_rate(audio: FloatArray, from_hz: int, to_hz: int) -> FloatArray:
    return resample(audio, from_hz, to_hz) if from_hz != to_hz and audio.size else audio


def _pitch_lags(audio: FloatArray, sample_rate_hz: int) -> tuple[FloatArray, int]:
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
