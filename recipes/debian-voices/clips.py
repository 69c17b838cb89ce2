"""One file of a package → speech at 16 kHz and one level, or the reason why it is left out; short pieces → clips."""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from numpy.typing import NDArray

from gru_audio.signal.audio import resample
from gru_audio.signal.audio_file.reading import read_audio
from gru_audio.signal.pitch import track_pitch

RATE_HZ = 16_000
LEVEL_DBFS = -26.0
PEAK_DBFS = -1.0
MIN_RATE_HZ = 16_000
MAX_CLIPPED = 0.001
MIN_ACTIVE_S = 0.25
SHORT_S = 1.0
"""Active speech below which a piece is joined with others."""
JOINED_S = 3.0
GAP_S = 0.15
"""Silence between joined pieces, and what stays of a pause at each of its ends."""
EDGE_S = 0.1
"""What stays before the first and after the last speech."""
NARROW_DB = -67.0
"""Power between 5 and 7.5 kHz, of all; in wide-band clips measured above -65, in telephone-band ones below -70."""
DUAL_MONO = 0.01
"""Largest difference between two channels of the same audio."""

_FRAME = 320  # 20 ms
_FADE = 80  # 5 ms, where audio is cut

Audio = NDArray[np.float32]


class Piece(NamedTuple):
    """What became of one file.

    Attributes:
        reason: why it is left out; empty where it is kept.
        audio: (n_samples,) at RATE_HZ, levelled; empty where it is left out.
        active_s: seconds of speech, pauses left out.
        digest: of the file's bytes, so that copies are found.
    """

    reason: str
    audio: Audio
    active_s: float
    digest: str


def left_out(reason: str, digest: str = "") -> Piece:
    return Piece(reason, np.zeros(0, np.float32), 0.0, digest)


def whole(path: Path) -> Piece:
    """A file as it is, but for its level and rate; one without speech in it is left out."""
    if not path.stat().st_size:
        return left_out("empty")
    audio, rate_hz = read_audio(path, input_format="g722" if path.suffix == ".g722" else None)
    audio = resample(audio, rate_hz, RATE_HZ)
    active = active_frames(audio)
    if not active.any():
        return left_out("silent")
    return Piece("", levelled(audio, active), _seconds(active), "")


def chosen(path: Path, min_voiced: float = 0.0) -> Piece:
    """A file if it is clean speech: one channel of it, levelled, with short pauses."""
    digest = hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
    channels, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)  # (n_samples, n_channels)
    given = one_channel(channels)
    audio = resample(given, rate_hz, RATE_HZ)
    active = active_frames(audio)
    reason = next(faults(given, rate_hz, audio, active, min_voiced), "")
    if reason:
        return left_out(reason, digest)
    return Piece("", without_pauses(levelled(audio, active), active), _seconds(active), digest)


def faults(
    given: Audio, rate_hz: int, audio: Audio, active: NDArray[np.bool_], min_voiced: float
) -> Iterator[str]:
    """Why audio, as given and at RATE_HZ, is to be left out; the first of these is told."""
    if rate_hz < MIN_RATE_HZ:
        yield "rate"
    if np.count_nonzero(np.abs(given) >= 0.999) > MAX_CLIPPED * given.size:
        yield "clipped"
    if _seconds(active) < MIN_ACTIVE_S:
        yield "short"
    if high_band_db(audio) < NARROW_DB:
        yield "narrow"
    if min_voiced and voiced_share(audio) < min_voiced:
        yield "unvoiced"


def is_tagged(path: Path) -> bool:
    """Whether a file has a track number or a comment, which tells one recording session from another."""
    with soundfile.SoundFile(path) as file:
        tags = file.copy_metadata()
    return bool(tags.get("tracknumber") or tags.get("comment"))


def one_channel(channels: Audio) -> Audio:
    """The mean of channels (n_samples, n_channels) that are the same, else the loudest."""
    if np.ptp(channels, axis=1).max(initial=0.0) <= DUAL_MONO:
        return np.ascontiguousarray(channels.mean(axis=1, dtype=np.float32))
    power = np.square(channels, dtype=np.float64).mean(axis=0)
    return np.ascontiguousarray(channels[:, int(power.argmax())])


def active_frames(audio: Audio) -> NDArray[np.bool_]:
    """Which frames of 20 ms are speech, by level: (n_frames,), a rest at the end left out.

    The threshold is 25 dB below the loud frames, or 6 dB above the quiet ones where those are noise.
    """
    frames = audio[: audio.size // _FRAME * _FRAME].reshape(-1, _FRAME)
    if not len(frames):
        return np.zeros(0, np.bool_)
    level = 10 * np.log10(np.square(frames, dtype=np.float64).mean(axis=1) + 1e-12)
    quiet, loud = np.percentile(level, [5, 95])
    active: NDArray[np.bool_] = level > max(loud - 25, min(quiet + 6, loud - 12), -75)
    return active


def levelled(audio: Audio, active: NDArray[np.bool_]) -> Audio:
    """Audio with the speech in it at LEVEL_DBFS, or less where a peak would pass PEAK_DBFS."""
    spoken = audio[: active.size * _FRAME].reshape(-1, _FRAME)[active]
    rms = float(np.sqrt(np.square(spoken, dtype=np.float64).mean()))
    gain = min(10 ** (LEVEL_DBFS / 20) / rms, 10 ** (PEAK_DBFS / 20) / float(np.abs(audio).max()))
    scaled: Audio = audio * np.float32(gain)
    return scaled


def high_band_db(audio: Audio) -> float:
    power = np.abs(np.fft.rfft(audio * np.hanning(audio.size))) ** 2
    frequency_hz = np.fft.rfftfreq(audio.size, 1 / RATE_HZ)
    high = power[(frequency_hz > 5000) & (frequency_hz < 7500)].sum()
    return float(10 * np.log10(high / power.sum() + 1e-15))


def voiced_share(audio: Audio) -> float:
    """The share of frames, of 12.5 ms, that have a pitch between 50 and 500 Hz."""
    hop = RATE_HZ // 80
    n_frames = audio.size // hop
    lags = track_pitch(
        audio, RATE_HZ, hop_samples=hop, n_frames=n_frames, lag_min_samples=32, lag_max_samples=320
    )
    return float(np.mean(lags > 0))


def without_pauses(audio: Audio, active: NDArray[np.bool_]) -> Audio:
    """Audio of which only the speech is left, and a little around it, faded where it is cut."""
    changes = np.flatnonzero(np.diff(np.concatenate([[False], active, [False]]).astype(np.int8))) * _FRAME
    begins, ends = changes[::2], changes[1::2]
    pauses = begins[1:] - ends[:-1] > 2 * GAP_S * RATE_HZ
    gap, edge = round(GAP_S * RATE_HZ), round(EDGE_S * RATE_HZ)
    first = [max(0, begins[0] - edge), *(begins[1:][pauses] - gap)]
    last = [*(ends[:-1][pauses] + gap), min(audio.size, ends[-1] + edge)]
    kept: Audio = np.concatenate([_faded(audio[a:b]) for a, b in zip(first, last, strict=True)])
    return kept


def joined(pieces: Iterable[tuple[str, Piece]]) -> Iterator[tuple[str, Audio]]:
    """Clips of named pieces, in order: long pieces as they are, short ones together, named after their first."""
    gap = np.zeros(round(GAP_S * RATE_HZ), np.float32)
    parts: list[Audio] = []
    name, n_samples = "", 0
    for piece_name, piece in pieces:
        if piece.active_s >= SHORT_S:
            yield piece_name, piece.audio
            continue
        name = name or piece_name
        parts += [gap, piece.audio] if parts else [piece.audio]
        n_samples += piece.audio.size
        if n_samples >= JOINED_S * RATE_HZ:
            yield name, np.concatenate(parts)
            name, parts, n_samples = "", [], 0
    if parts:
        yield name, np.concatenate(parts)


def _seconds(active: NDArray[np.bool_]) -> float:
    return int(active.sum()) * _FRAME / RATE_HZ


def _faded(audio: Audio) -> Audio:
    """A copy whose ends rise from and fall to zero."""
    n = min(_FADE, audio.size // 2)
    faded: Audio = audio.copy()
    ramp = np.linspace(0, 1, n, endpoint=False, dtype=np.float32)
    faded[:n] *= ramp
    faded[faded.size - n :] *= ramp[::-1]
    return faded
