"""What a voice is compared with: the same clips through methods that are known, each in its own alignment.

Every anchor takes and gives audio (n,) at one rate, sample by sample the same stretch.
"""

import shutil
import subprocess
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from gru_audio.arrays import FloatArray
from gru_audio.config import Config, MelConfig
from gru_audio.errors import AudioError
from gru_audio.quality.compiled_librosa import compiled_librosa, griffin_lim_seed
from gru_audio.signal.audio import from_int16, resample, to_int16
from gru_audio.signal.codec import de_emphasis, pre_emphasis, run_closed_loop
from gru_audio.signal.lpc import frame_filters
from gru_audio.signal.mel import filterbank, pseudo_inverse, to_linear

_G722_HZ = 16_000
_G722_DELAY_SAMPLES = 22  # of its two quadrature mirror filters, 24 taps each
_ITERATIONS = 60


def ffmpeg_path() -> str | None:
    """Where ffmpeg is, which knows G.722; None if it is not on PATH."""
    return shutil.which("ffmpeg")


def g722(audio: FloatArray, sample_rate_hz: int) -> FloatArray:
    """A round trip through G.722 at 64 kbit/s, by way of 16 kHz.

    Raises:
        AudioError: ffmpeg is missing or fails.

    Source: ITU-T G.722 (2012), through ffmpeg.
    """
    wide_band = resample(audio, sample_rate_hz, _G722_HZ)
    # Zeros push the last samples through the filters' delay, and the whole to an even length.
    padded = np.pad(wide_band, (0, _G722_DELAY_SAMPLES + wide_band.size % 2))
    pcm = ("-f", "s16le", "-ar", str(_G722_HZ), "-ac", "1")
    coded = _ffmpeg([*pcm, "-i", "-", "-f", "g722", "-"], to_int16(padded).astype("<i2").tobytes())
    decoded = np.frombuffer(_ffmpeg(["-f", "g722", "-i", "-", *pcm, "-"], coded), "<i2")
    aligned = from_int16(decoded[_G722_DELAY_SAMPLES:].astype(np.int16))[: wide_band.size]
    return _cut(resample(aligned, _G722_HZ, sample_rate_hz), audio.size)


def griffin_lim(mel: FloatArray, config: MelConfig, n_samples: int) -> FloatArray:
    """Audio (n_samples,) from a mel (F, M) by phase retrieval, from its least-squares magnitudes.

    Source: Perraudin et al., A Fast Griffin-Lim Algorithm (2013), librosa's with its momentum of 0.99.
    """
    librosa = compiled_librosa()

    size = np.maximum(_inverse(config) @ to_linear(mel, config).T, 0)  # (n_fft / 2 + 1, F)
    magnitude = size ** (1 / config.spectrum_power)
    # With fewer frames librosa warns, as it makes less than one transform.
    n_needed = config.n_fft // config.hop_samples + 2
    magnitude = np.pad(magnitude, ((0, 0), (0, max(0, n_needed - len(mel)))))  # silence after the end
    audio = librosa.griffinlim(
        magnitude,
        n_iter=_ITERATIONS,
        n_fft=config.n_fft,
        hop_length=config.hop_samples,
        win_length=config.window_samples,
        **griffin_lim_seed(librosa),
    )
    # librosa centres its frames on multiples of the hop; with padding "same" they lie half a hop later.
    aligned = np.pad(np.asarray(audio, np.float32), (config.hop_samples // 2 - config.lead_samples, 0))
    return _cut(de_emphasis(aligned, config.preemphasis), n_samples)


def codec_alone(audio: FloatArray, mel: FloatArray, config: Config) -> FloatArray:
    """The codec's ceiling: audio (n,) through pre-emphasis, linear prediction and mu-law, with no network.

    Args:
        audio: at the config's rate.
        mel: (F, M) of the audio under `config.mel`.
        config: the voice's.
    """
    signal, lead = config.signal, config.mel.lead_samples
    filters = frame_filters(mel, config.mel, signal)
    emphasised = pre_emphasis(codec_input(audio, len(mel), config.mel), signal.preemphasis)
    rebuilt = run_closed_loop(emphasised, filters, signal).rebuilt
    return _cut(de_emphasis(rebuilt, signal.preemphasis)[lead:], audio.size)


def codec_input(audio: FloatArray, n_frames: int, config: MelConfig) -> FloatArray:
    """Audio (n,) with silence around it, so that it fills the hops of its mel's frames: (n_frames * hop,)."""
    return _cut(np.pad(audio, (config.lead_samples, 0)), n_frames * config.hop_samples)


@lru_cache(maxsize=2)
def _inverse(config: MelConfig) -> npt.NDArray[np.float32]:
    """(n_fft / 2 + 1, M), from filterbank outputs back to bins."""
    return np.asarray(pseudo_inverse(filterbank(config)), np.float32)


def _ffmpeg(arguments: list[str], data: bytes) -> bytes:
    ffmpeg = ffmpeg_path()
    if ffmpeg is None:
        raise AudioError("G.722 needs ffmpeg, which is not on PATH; install it (apt-get install ffmpeg)")
    done = subprocess.run([ffmpeg, "-v", "error", *arguments], input=data, capture_output=True, check=False)
    if done.returncode:
        reason = " ".join(done.stderr.decode(errors="replace").split())
        raise AudioError(f"G.722: ffmpeg fails ({reason}); install a build that has the codec g722")
    return done.stdout


def _cut(audio: FloatArray, n_samples: int) -> FloatArray:
    """Audio of exactly so many samples, with silence at the end where it has fewer."""
    return np.pad(audio, (0, max(0, n_samples - audio.size)))[:n_samples]
