"""Audio as arrays: checks, resampling, 16 bits, levels, loudness, trimming.

Audio is mono throughout, float32 with full scale at 1.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gru_audio.arrays import array_of
from gru_audio.errors import AudioError
from gru_audio.signal.bounds import check_rate, check_size
from gru_audio.signal.loudness import BLOCK_S, integrated_loudness

FULL_SCALE = 32_767 / 32_768
"""Magnitude from which a sample counts as clipped: the largest that 16 bits hold on both sides."""

_OUT_OF_SCALE = 100.0  # 40 dB over full scale
_INT16_SCALE = 32_768.0
_LOUDNESS_PEAK = 10 ** (-1 / 20)  # -1 dBFS
_SMALLEST_POWER = 1e-10  # -100 dB: all that is under it is as loud


def check_audio(audio: ArrayLike) -> NDArray[np.float32]:
    """Audio that a caller gave, as float32; float32 is not copied.

    Args:
        audio: (n_samples,), real floats with full scale at 1, or int16.

    Raises:
        AudioError: another shape or type, or samples that are not finite or far over full scale.
    """
    try:
        given = array_of(audio)
    except ValueError as error:
        raise AudioError("audio: lists of different lengths; give one array (n_samples,)") from error
    if given.ndim != 1:
        raise AudioError(
            f"audio of shape {given.shape}: one dimension (n_samples,) is needed; take one channel or the mean"
        )
    if given.dtype.newbyteorder("=") == np.int16:  # in whichever order its bytes are
        return from_int16(given)
    if not np.issubdtype(given.dtype, np.floating):
        raise AudioError(f"audio of type {given.dtype}: give floats with full scale at 1, or int16")
    with np.errstate(over="ignore"):  # a float64 too large for float32 is caught as infinite below
        samples = np.ascontiguousarray(given, dtype=np.float32)
    if not np.isfinite(samples).all():
        raise AudioError("audio has samples that are NaN or infinite; mend them before the call")
    check_scale(samples, "audio")
    return samples


def check_scale(audio: NDArray[np.float32], name: str) -> None:
    """Refuse audio of any shape whose full scale cannot be 1.

    Raises:
        AudioError: a sample is 40 dB over full scale; `name` begins the message.
    """
    peak = float(np.abs(audio).max(initial=0.0))
    if peak >= _OUT_OF_SCALE:
        bits = next((bits for bits in (16, 24, 32) if peak <= 1 << bits - 1), None)
        if bits is None:
            raise AudioError(f"{name}: a sample of {peak:.3g}, and full scale is 1; make the file anew")
        full_scale = 1 << bits - 1
        raise AudioError(
            f"{name}: a sample of {peak:.0f}, and full scale is 1: integers of {bits} bits stored as floats? divide "
            f"them by {full_scale} (ffmpeg -i FILE -af volume=1/{full_scale} OUT.wav)"
        )


def resample(audio: NDArray[np.float32], from_hz: int, to_hz: int) -> NDArray[np.float32]:
    """Bring audio (n_samples,) to another sample rate with soxr at its very high quality.

    Raises:
        AudioError: a rate that no audio has, or more samples than may be.
    """
    check_rate(from_hz)
    check_size(audio.size * to_hz / from_hz)
    if from_hz == to_hz or not audio.size:
        return audio
    import soxr

    resampled: NDArray[np.float32] = soxr.resample(audio, from_hz, to_hz, quality="VHQ")
    return resampled


def require_at_rate(audio: NDArray[np.float32], from_hz: int, to_hz: int, name: str) -> None:
    """Make sure that audio (n_samples,), of a file or the like, has a sample at another rate, too.

    Raises:
        AudioError: it is shorter than that; `name` begins the message.
    """
    if audio.size * to_hz < 2 * from_hz and not resample(audio, from_hz, to_hz).size:
        raise AudioError(
            f"{name}: its {audio.size} samples at {from_hz} Hz are none at {to_hz} Hz; replace it, or leave it out"
        )


class ResampleStream:
    """Audio that comes in pieces, brought to another sample rate: bit for bit what `resample` gives of the whole."""

    def __init__(self, from_hz: int, to_hz: int) -> None:
        """Begin a stream.

        Raises:
            AudioError: a rate that no audio has.
        """
        check_rate(from_hz)
        self._inner: Any = None
        if from_hz != to_hz:
            import soxr

            self._inner = soxr.ResampleStream(from_hz, to_hz, 1, dtype="float32", quality="VHQ")

    def push(self, audio: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take the next audio (n,): what is complete now of it."""
        return audio if self._inner is None else self._inner.resample_chunk(audio)

    def finish(self) -> NDArray[np.float32]:
        """End the stream: the rest."""
        nothing = np.zeros(0, np.float32)
        return nothing if self._inner is None else self._inner.resample_chunk(nothing, last=True)


def to_int16(audio: NDArray[np.float32]) -> NDArray[np.int16]:
    """Audio (n_samples,) as 16-bit PCM, clipped at full scale; the inverse of reading 16-bit files."""
    pcm: NDArray[np.int16] = np.clip(np.rint(audio * _INT16_SCALE), -32_768, 32_767).astype(np.int16)
    return pcm


def from_int16(pcm: NDArray[np.int16]) -> NDArray[np.float32]:
    """16-bit PCM (n_samples,) as audio; exact."""
    audio: NDArray[np.float32] = pcm.astype(np.float32) * np.float32(1 / _INT16_SCALE)
    return audio


def dbfs(value: float) -> float:
    """A magnitude in decibels relative to full scale; -inf for 0."""
    return 20 * math.log10(value) if value > 0 else -math.inf


def finite(value: float) -> float | None:
    """A figure that JSON can hold: None for the level of silence and whatever else is not finite."""
    return float(value) if math.isfinite(value) else None


def peak_dbfs(audio: NDArray[np.float32]) -> float:
    """Level of the largest sample of audio (n_samples,); -inf for silence."""
    return dbfs(float(np.abs(audio).max(initial=0.0)))


def rms_dbfs(audio: NDArray[np.float32]) -> float:
    """Root-mean-square level of audio (n_samples,); -inf for silence."""
    return dbfs(float(np.sqrt(np.mean(np.square(audio, dtype=np.float64))))) if audio.size else -math.inf


def normalise_loudness(
    audio: NDArray[np.float32], sample_rate_hz: int, target_lufs: float
) -> NDArray[np.float32]:
    """Bring audio (n_samples,) to an integrated loudness by one gain.

    The gain is lowered where the peak would pass -1 dBFS, so nothing clips. Silence stays as it is. A
    clip shorter than the measure's block of 0.4 s is measured as if it went on repeating.

    Source: ITU-R BS.1770-4.
    """
    peak = float(np.abs(audio).max(initial=0.0))
    if peak == 0:
        return audio
    block_samples = math.ceil(BLOCK_S * sample_rate_hz) + 1
    measured = np.resize(audio, block_samples) if audio.size < block_samples else audio
    loudness_lufs = integrated_loudness(measured, sample_rate_hz)
    if not math.isfinite(loudness_lufs):
        return audio  # below the measure's own gate of -70 LUFS: silence to the ear
    gain = min(10 ** ((target_lufs - loudness_lufs) / 20), _LOUDNESS_PEAK / peak)
    scaled: NDArray[np.float32] = audio * np.float32(gain)
    return scaled


def trim_silence(
    audio: NDArray[np.float32], sample_rate_hz: int, below_peak_db: float, margin_s: float
) -> NDArray[np.float32]:
    """Cut leading and trailing silence; see `sounding_range`."""
    first, last = sounding_range(audio, sample_rate_hz, below_peak_db, margin_s)
    return audio[first:last]


def sounding_range(
    audio: NDArray[np.float32], sample_rate_hz: int, below_peak_db: float, margin_s: float
) -> tuple[int, int]:
    """Where audio is without leading and trailing silence.

    Args:
        audio: (n_samples,).
        sample_rate_hz: its rate.
        below_peak_db: frames (32 ms) this far below the loudest frame are silence.
        margin_s: seconds of the silence that are kept at each end.

    Returns:
        Its first sample and the one after its last; all of `audio` where it is silent throughout.
    """
    if not audio.any():
        return 0, audio.size
    frame = 1 << round(math.log2(0.032 * sample_rate_hz))
    hop = frame // 4
    total = np.concatenate([[0.0], np.cumsum(np.pad(audio, frame // 2).astype(np.float64) ** 2)])
    powers = (total[frame::hop] - total[:-frame:hop]) / frame  # of frames around each hop's beginning
    powers = np.maximum(powers, _SMALLEST_POWER)
    loud = np.flatnonzero(powers > powers.max() * 10 ** (-below_peak_db / 10))
    first, last = loud[0] * hop, (loud[-1] + 1) * hop
    margin = round(margin_s * sample_rate_hz)
    return max(0, int(first) - margin), min(int(last) + margin, audio.size)
