"""Spectral correction: what the network drew, brought nearer to the mel that was asked for.

A drawn sample is a little too loud here and too soft there, and noisy between the harmonics: the mel knows better,
but has no phase. So each frame of the audio is transformed, its bins are scaled until its mel meets the given one,
and the frames are overlapped and added. That is Griffin and Lim's iteration, begun at the network's phase, with mel
bands in place of bins; it goes several rounds over the newest frames alone, each time with all that is known of their
neighbours, so that a stream waits for a few frames once, and not for as many again with every round.

Source: Griffin & Lim, Signal estimation from modified short-time Fourier transform (1984); Zhu, Beauregard & Wyse,
Real-time signal estimation from modified short-time Fourier transform magnitude spectra (2007), for the rounds.
Shapes: F frames, M mel bands, W samples of the analysis window.
"""

import math
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from gru_audio.arrays import FloatArray
from gru_audio.config import MelConfig
from gru_audio.errors import ConfigError
from gru_audio.native import library
from gru_audio.signal.fft import ONE_PLAN_FIELDS, one_plan_of
from gru_audio.signal.mel import (
    MelAnalysis,
    analysis_values,
    filterbank,
    first_of_window,
    mirrored_samples,
    silent_up_to,
    to_linear,
)

_MOST_ROUNDS = 100
DEFAULT_CORRECTIONS = 3
"""Rounds: each one raises PESQ less than the one before; see docs/correction.md."""

_EXPONENT = (
    1.5  # of a band's gain: a bin's is a mean over bands and overlapping frames, so that 1 falls short
)
_LIMIT = 6.0  # 15.6 dB: what is missing by more is not brought up from noise at once
_FULL_SHARE = 1 / 3  # of the windows' squares when all are known: down to it the raw audio has no say


class Corrections:
    """The correction of one stream; each frame comes back `delay` frames late. Any chunking gives the same samples.

    Attributes:
        n_rounds: with none the audio stays as it is, and nothing is late.
        delay: in frames.
    """

    def __init__(self, config: MelConfig, n_rounds: int) -> None:
        """Begin; see native/correction.c for the arrays."""
        self._config, self.n_rounds, self.delay = config, n_rounds, 0
        if not n_rounds:
            return
        plan = self._plan = plan_of_contract(config)
        n_samples, self.delay = (plan.n_open - 1) * plan.hop + plan.width, delay_of(plan)
        self._stream = _CorrectionStream(
            audio=np.zeros(plan.n_audio, np.float32),
            sums=np.zeros(n_samples, np.float32),
            weights=np.zeros(n_samples, np.float32),
            frames=np.zeros((plan.n_open, plan.width), np.float32),
            targets=np.zeros((self.delay + 1, plan.n_mels), np.float32),
            known=np.zeros(plan.n_open, np.bool_),
            valid=np.zeros(self.delay + 1, np.bool_),
        )
        self._scratch = library.aligned(_scratch_size(plan))
        self._scratch[...] = 0

    def push(self, audio: FloatArray, linear: FloatArray) -> FloatArray:
        """Take audio (F * hop,) and its mel (F, M) without the logarithm; return the audio that is corrected now."""
        if not self.n_rounds:
            return audio
        return self._run(np.array(audio, np.float32), linear, np.ones(len(linear), np.bool_))

    def finish(self) -> FloatArray:
        """The audio of the frames still under way; the stream is then over."""
        n_frames, config = self.delay, self._config
        if not n_frames:
            return np.zeros(0, np.float32)
        nothing = np.zeros(n_frames * config.hop_samples, np.float32)
        return self._run(
            nothing, np.zeros((n_frames, config.n_mels), np.float32), np.zeros(n_frames, np.bool_)
        )

    def export_state(self) -> dict[str, npt.NDArray[Any]]:
        """Copies of the arrays by which it goes on; their shapes and types follow from the contract."""
        return {name: array.copy() for name, array in self._stream.held.items()} if self.n_rounds else {}

    def import_state(self, state: dict[str, npt.NDArray[Any]]) -> None:
        """Go on from what `export_state` gave."""
        for name, array in state.items():
            self._stream.held[name][...] = array

    def _run(self, audio: FloatArray, targets: FloatArray, valid: npt.NDArray[np.bool_]) -> FloatArray:
        """Put frames through the rounds, in place; those that come out and are of the stream."""
        targets = np.ascontiguousarray(targets)
        _correct(self._plan, self._stream, self.n_rounds, len(valid), audio, targets, valid, self._scratch)
        return np.asarray(audio.reshape(-1, self._config.hop_samples)[valid].ravel(), np.float32)


def correct(audio: FloatArray, mel: FloatArray, config: MelConfig, n_rounds: int | None = None) -> FloatArray:
    """A whole clip's audio (F * hop,) brought nearer to its mel (F, M), by default as a vocoder does it."""
    corrections = Corrections(config, default_corrections(config) if n_rounds is None else n_rounds)
    return np.concatenate([corrections.push(audio, to_linear(mel, config)), corrections.finish()])


def default_corrections(config: MelConfig) -> int:
    """`DEFAULT_CORRECTIONS`, or none where a contract's windows overlap too little to put audio together from them."""
    return DEFAULT_CORRECTIONS if config.window_samples >= 2 * config.hop_samples else 0


def check_corrections(config: MelConfig, n_rounds: int) -> int:
    """The frames of lookahead that the rounds take, the same for any number of them, once a contract allows them.

    Raises:
        ConfigError: fewer than none, or over a hundred; or windows overlap too little to put audio together from them.
    """
    if not 0 <= n_rounds <= _MOST_ROUNDS:
        raise ConfigError(f"corrections {n_rounds}: must be from 0 to {_MOST_ROUNDS}")
    if n_rounds and not default_corrections(config):
        raise ConfigError(
            f"corrections {n_rounds}: mel.window_samples ({config.window_samples}) is less than two hops of "
            f"{config.hop_samples}; only 0 is possible with this voice"
        )
    return delay_of(plan_of_contract(config)) if n_rounds else 0


class _CorrectionPlan(library.Struct):
    """What a contract's streams share; see native/correction.c."""

    _fields_ = (
        *MelAnalysis._fields_,
        *ONE_PLAN_FIELDS,
        ("band_first", library.Int64s),
        ("band_length", library.Int64s),
        ("band_filters", library.Floats),
        ("band_shares", library.Floats),
        ("n_open", library.Int),
        ("reach", library.Int),
        ("before", library.Int),
        ("n_audio", library.Int),
        ("exponent", library.Float),
        ("log_limit", library.Float),
        ("full", library.Float),
        ("silent", library.Float),
    )


class _CorrectionStream(library.Struct):
    """What one stream goes on with; see native/correction.c."""

    _fields_ = (
        ("audio", library.Floats),
        ("sums", library.Floats),
        ("weights", library.Floats),
        ("frames", library.Floats),
        ("targets", library.Floats),
        ("known", library.Bools),
        ("valid", library.Bools),
    )


def delay_of(plan: _CorrectionPlan) -> int:
    """Frames from audio in to audio out."""
    return int(plan.n_open - 1 + plan.reach)


@lru_cache(maxsize=8)
def plan_of_contract(config: MelConfig) -> _CorrectionPlan:
    hop, width, bank = config.hop_samples, config.window_samples, filterbank(config)
    # From a window's beginning to its frame's.
    before = mirrored_samples(config) - config.lead_samples - first_of_window(config)
    reach = -(-(width - before - hop) // hop)
    n_open = 1 + -(-before // hop)
    values = analysis_values(config)
    shares = bank / np.maximum(bank.sum(0), np.finfo(np.float32).tiny)
    first, lengths = values["first_bin"], -(-values["length"] // _LANES) * _LANES
    padded = ((0, 0), (0, _LANES))
    return _CorrectionPlan(
        **values,
        **one_plan_of(config.n_fft),
        band_first=first,
        band_length=lengths,
        band_filters=_rows(np.pad(bank, padded), first, lengths),
        band_shares=_rows(np.pad(shares, padded), first, lengths),
        n_open=n_open,
        reach=reach,
        before=before,
        n_audio=(n_open + reach) * hop + before,
        exponent=_EXPONENT / 2 if config.spectrum == "power" else _EXPONENT,
        log_limit=math.log(_LIMIT),
        full=_FULL_SHARE * float(np.square(values["window"], dtype=np.float64).sum()) / hop,
        silent=silent_up_to(config),
    )


_LANES = 8  # numbers that native/correction.c takes of a filter at once


def _rows(
    matrix: FloatArray, first: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """Of each row so many numbers, end to end."""
    parts = [row[start : start + n] for row, start, n in zip(matrix, first, lengths, strict=True)]
    return np.concatenate(parts).astype(np.float32)


_scratch_size = library.function("gru_correction_scratch_size", [_CorrectionPlan], library.Int)
_correct = library.function(
    "gru_correct",
    [
        *(_CorrectionPlan, _CorrectionStream, library.Int, library.Int),
        *(library.Floats, library.Floats, library.Bools, library.Floats),
    ],
)
