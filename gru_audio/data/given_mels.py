"""A given mel beside its recording: whether it keeps the contract, and how it lies in time.

What an acoustic model makes under teacher forcing is close to the recording's own mel. So the two are laid side by
side: the shift at which they agree best is found by correlation, and their spread and mean show another log or scale.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from gru_audio.arrays import FloatArray
from gru_audio.config import MelConfig
from gru_audio.errors import MelError
from gru_audio.signal.mel import log_mel, log_unit, silent_frames
from gru_audio.signal.mel_adapt.conversion import convert_mel
from gru_audio.signal.mel_file import read_mel

TOLERATED_FRAMES = 4
"""How many frames more or fewer than the recording a mel may have: models round to steps, and drop a last part."""
MOST_SHIFTED_FRAMES = 8
"""Over how many frames, before and behind, a mel's place is sought."""

_MEND = "make the mel anew, or prepare the dataset under its contract (the config's [mel])"

_LEAST_CORRELATION = 0.5
_SLOPES = (0.6, 1.5)  # of a model's mel over the recording's; log10 has 0.43, decibels 8.7
_MOST_OFFSET = 2.0  # of the mean, in units of the natural log of magnitude: 17 dB
_MOST_TILT = (
    0.4  # deviation over the bands, in the same units: HTK's mel scale for Slaney's has 0.43, smoothing 0.01
)
_CLEARLY = 0.01  # by how much a shift must correlate better than none


class GivenMel(NamedTuple):
    """A mel that belongs to a recording.

    Attributes:
        frames: (F, M), one for each hop of the recording (one more with padding "center").
        shift: by how many frames the file's lay too late.
    """

    frames: FloatArray
    shift: int


def read_given_mel(path: Path, audio: FloatArray, contract: MelConfig) -> GivenMel:
    """Read a mel and lay it beside its recording.

    Args:
        path: the mel's file, which may state another log, scale, offset or floor.
        audio: (n,), the recording at the contract's rate.
        contract: the dataset's.

    Raises:
        MelError: not a mel of this contract or of this recording; says what does not fit.
    """
    mel, stated = read_mel(path, contract)
    if stated is not None and stated != contract:
        mel = convert_mel(mel, stated, contract, str(path), mend=_MEND)
    own = log_mel(np.pad(audio, (0, -audio.size % contract.hop_samples)), contract)  # (F, M)
    if abs(len(mel) - len(own)) > TOLERATED_FRAMES:
        raise MelError(
            f"{path}: has {len(mel)} frames, the recording {len(own)} (up to {TOLERATED_FRAMES} more or less are "
            "accepted); was it made of another recording, or with another hop or rate?"
        )
    scores = {shift: _correlation(mel, own, shift) for shift in _shifts(len(own))}
    best = max(scores, key=lambda shift: scores[shift])
    shift = best if scores[best] > scores[0] + _CLEARLY else 0
    if scores[shift] < _LEAST_CORRELATION:
        raise MelError(
            f"{path}: does not match its recording (correlation {scores[shift]:.2f}); check which mel belongs to it"
        )
    frames = silent_frames(len(own), contract)
    theirs, ours = _overlap(len(mel), len(own), shift)
    frames[ours] = mel[theirs]
    _require_level(path, mel[theirs], own[ours], contract)
    return GivenMel(frames, shift)


def _shifts(n_frames: int) -> range:
    reach = min(MOST_SHIFTED_FRAMES, max(0, n_frames // 2 - 1))
    return range(-reach, reach + 1)


def _overlap(n_theirs: int, n_ours: int, shift: int) -> tuple[slice, slice]:
    """Which frames of a mel that lies `shift` frames late stand for which of the recording."""
    first, last = max(0, shift), min(n_theirs, n_ours + shift)
    return slice(first, last), slice(first - shift, last - shift)


def _correlation(mel: FloatArray, own: FloatArray, shift: int) -> float:
    """Of what both do over time, their bands' means left out."""
    theirs, ours = _overlap(len(mel), len(own), shift)
    one, other = (part - part.mean(0) for part in (mel[theirs], own[ours]))
    norm = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(np.vdot(one, other)) / norm if norm > 0 else 0.0


def _require_level(path: Path, mel: FloatArray, own: FloatArray, contract: MelConfig) -> None:
    """Make sure that values go up and down as far as the contract's do, about the same mean, in every band.

    Raises:
        MelError: they do not; says by how much.
    """
    slope = float(mel.std() / max(float(own.std()), 1e-9))
    per_unit = log_unit(contract) / contract.scale / contract.spectrum_power
    offset = float(mel.mean() - own.mean()) * per_unit
    if not _SLOPES[0] < slope < _SLOPES[1] or abs(offset) > _MOST_OFFSET:
        raise MelError(
            f"{path}: does not keep the contract: its values span {slope:.2f} times the recording's own, their mean is "
            f"{offset * 8.686:+.0f} dB off; state the mel's log, scale and offset in the config's [mel]"
        )
    tilt = float((mel.mean(0) - own.mean(0)).std()) * per_unit
    if tilt > _MOST_TILT:
        raise MelError(
            f"{path}: does not keep the contract: its bands are {tilt * 8.686:.0f} dB off, each by another amount; "
            "state the mel's f_min_hz, f_max_hz, mel_scale, filter_norm and preemphasis in the config's [mel]"
        )
