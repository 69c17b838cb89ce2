"""The tables and numbers of a contract's correction; see correction.py and native/correction/correction_frame.h."""

import math
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from gru_audio.arrays import FloatArray
from gru_audio.config import MelConfig
from gru_audio.native import library
from gru_audio.native.dense import in_whole_vectors
from gru_audio.signal.fft import ONE_PLAN_FIELDS, one_plan_of
from gru_audio.signal.mel import (
    MelAnalysis,
    analysis_values,
    filterbank,
    first_of_window,
    heard_filters,
    mirrored_samples,
    silent_up_to,
)

# Of a band's gain: a bin's is a mean over bands and overlapping frames, so that 1 falls short.
_EXPONENT = 1.5
_LOW_ROUNDS = 24  # of the low end, however many the whole spectrum has
_LOW_MOMENTUM = 0.9
_LOW_END_HZ = 1000.0  # it reaches this far at least
_LEAST_FFT = 128  # of the low end, and what its size is a multiple of; see native/signal/fft_one.h
_LIMIT = 6.0  # 15.6 dB: what is missing by more is not brought up from noise at once
# How much more stands out what stands out of 3/8 of the bands, and of two frames on each side; see docs/correction.md.
_CONTRAST_OF_BANDS, _CONTRAST_OF_FRAMES = 0.15, 0.2
_CONTRAST_LIMIT = math.log(10) * 3 / 20  # 3 dB
_FULL_SHARE = 1 / 3  # of the windows' squares when all are known: down to it the raw audio has no say


class CorrectionPlan(library.Struct):
    """What a contract's streams share; see native/correction/correction_frame.h."""

    _fields_ = (
        *MelAnalysis._fields_,
        *ONE_PLAN_FIELDS,
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
        ("floor", library.Float),
        *((f"contrast_{name}", library.Float) for name in ("of_bands", "of_frames", "limit")),
        *((f"low_{name}", kind) for name, kind in ONE_PLAN_FIELDS),
        ("low_window", library.Floats),
        *((f"low_{name}", library.Int) for name in ("hop", "width", "n_fft", "n_mels", "n_rounds")),
        *((f"low_{name}", library.Floats) for name in ("filters", "shares", "covered")),
        *((f"low_{name}", library.Float) for name in ("limit", "momentum", "unit")),
    )


def delay_of(plan: CorrectionPlan) -> int:
    """Frames from audio in to audio out."""
    return int(plan.n_open - 1 + plan.reach)


@lru_cache(maxsize=8)
def plan_of_contract(config: MelConfig) -> CorrectionPlan:
    hop, width, bank = config.hop_samples, config.window_samples, filterbank(config)
    heard = heard_filters(config)
    # From a window's beginning to its frame's.
    before = mirrored_samples(config) - config.lead_samples - first_of_window(config)
    reach = -(-(width - before - hop) // hop)
    n_open = 1 + -(-before // hop)
    values = analysis_values(config)
    shares = bank / np.maximum(bank.sum(0), np.finfo(np.float32).tiny)
    first, lengths = values["first_bin"], -(-values["length"] // _LANES) * _LANES
    padded = ((0, 0), (0, _LANES))
    full = _FULL_SHARE * float(np.square(values["window"], dtype=np.float64).sum()) / hop
    return CorrectionPlan(
        **values,
        **one_plan_of(config.n_fft),
        band_length=lengths,
        band_filters=_rows(np.pad(heard, padded), first, lengths),
        band_shares=_rows(np.pad(shares, padded), first, lengths),
        n_open=n_open,
        reach=reach,
        before=before,
        n_audio=(n_open + reach) * hop + before,
        exponent=_EXPONENT / config.spectrum_power,
        log_limit=math.log(_LIMIT),
        full=full,
        silent=silent_up_to(config),
        floor=config.floor,
        contrast_of_bands=_CONTRAST_OF_BANDS,
        contrast_of_frames=_CONTRAST_OF_FRAMES,
        contrast_limit=_CONTRAST_LIMIT * config.spectrum_power,
        **_low_end(config, values["window"], heard, shares),
    )


def low_division(config: MelConfig) -> int:
    """By how much the low end's rate is below the audio's, a power of two; 0 where there is no low end.

    Hops and windows must stay whole, the transform one that native/signal/fft_one.h has, and the lowest band must fit.
    """
    division = 1
    while (
        config.sample_rate_hz >= 4 * division * _LOW_END_HZ
        and config.hop_samples % (2 * division) == config.window_samples % (2 * division) == 0
        and config.n_fft % (2 * division * _LEAST_FFT) == 0
    ):
        division *= 2
    return division if division > 1 and _n_low_bands(config, division) else 0


def _n_low_bands(config: MelConfig, division: int) -> int:
    """How many bands lie below the highest bin at a lower rate."""
    highest = config.n_fft // division // 2
    return int((filterbank(config)[:, highest:] > 0).any(axis=1).argmax())


def _low_end(config: MelConfig, window: FloatArray, heard: FloatArray, shares: FloatArray) -> dict[str, Any]:
    """The fields of C's `struct correction_low`; sizes are 0 where there is no low end."""
    division = low_division(config)
    n_fft, hop, width = (
        size // division if division else 0
        for size in (config.n_fft, config.hop_samples, config.window_samples)
    )
    n_bands, n_bins = (_n_low_bands(config, division), n_fft // 2 + 1) if division else (0, 0)
    fields = {
        **one_plan_of(n_fft or 2),
        "window": window[::division].copy() if division else window[:0],
        "hop": hop,
        "width": width,
        "n_fft": n_fft,
        "n_mels": n_bands,
        "n_rounds": _LOW_ROUNDS if division else 0,
        "filters": in_whole_vectors(heard[:n_bands, :n_bins].T, 2),
        "shares": in_whole_vectors(shares[:n_bands, :n_bins]),
        "covered": np.asarray(shares[:n_bands, :n_bins].sum(0), np.float32),
        "limit": _LIMIT,
        "momentum": _LOW_MOMENTUM,
        "unit": division**config.spectrum_power,
    }
    return {f"low_{name}": value for name, value in fields.items()}


_LANES = 8  # numbers that native/correction/correction_frame.h takes of a filter at once


def _rows(
    matrix: FloatArray, first: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """Of each row so many numbers, end to end."""
    parts = [row[start : start + n] for row, start, n in zip(matrix, first, lengths, strict=True)]
    return np.concatenate(parts).astype(np.float32)
