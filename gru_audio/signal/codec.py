"""The codec around the network: pre-emphasis, and the closed loop of prediction and mu-law excitation.

Both training and synthesis see the signal only through this loop: sample t is predicted from what was
*rebuilt* before it, and the mu-law code of the rest is what the network models (docs/design.md, 1.3, 1.5 and 1.6).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gru_audio.arrays import FloatArray
from gru_audio.config import SignalConfig
from gru_audio.native import library
from gru_audio.signal.lpc import FrameFilters
from gru_audio.signal.mulaw import expansion_table, thresholds

CodeArray = npt.NDArray[np.int16]


@dataclass(frozen=True)
class CodecTrace:
    """What the closed loop met at each sample t of a stretch of T samples.

    Attributes:
        target: (T,) code of the excitation, before noise.
        excitation: (T,) code that entered the history, with noise.
        previous_signal: (T,) code of the rebuilt sample before t, relative to the frame's signal scale.
        prediction: (T,) code of the linear prediction of t, relative to the same scale.
        rebuilt: (T,) float32, the rebuilt pre-emphasised signal.
    """

    target: CodeArray
    excitation: CodeArray
    previous_signal: CodeArray
    prediction: CodeArray
    rebuilt: FloatArray


def pre_emphasis(audio: FloatArray, coefficient: float, previous: float = 0.0) -> FloatArray:
    """s[t] = x[t] - coefficient * x[t - 1] of audio (n,); `previous` is the sample before the first."""
    shifted = np.empty_like(audio)
    shifted[:1] = previous
    shifted[1:] = audio[:-1]
    return np.asarray(audio - np.float32(coefficient) * shifted)


def de_emphasis(signal: FloatArray, coefficient: float, previous: float = 0.0) -> FloatArray:
    """x[t] = s[t] + coefficient * x[t - 1], the inverse of `pre_emphasis`; `previous` is x before the first."""
    signal = np.ascontiguousarray(signal, np.float32)
    audio = np.empty_like(signal)
    _de_emphasis(signal, signal.size, coefficient, previous, audio)
    return audio


def run_closed_loop(
    signal: FloatArray, filters: FrameFilters, config: SignalConfig, noise: npt.NDArray[np.int8] | None = None
) -> CodecTrace:
    """Code a pre-emphasised signal with no network, from a silent past.

    Args:
        signal: (T,), T = F * hop.
        filters: of the F frames.
        config: the signal model.
        noise: (T,) steps by which each excitation code is moved before it enters the history; none if None.

    Returns:
        The codes, which are the network's inputs and targets, and the rebuilt signal.
    """
    n_samples, n_frames = len(signal), len(filters.excitation_scale)
    hop = n_samples // n_frames if n_frames else 1
    assert n_samples == n_frames * hop, "the compiled loop does not check its indices"
    codes = np.empty((4, n_samples), np.int16)
    rebuilt = np.empty(n_samples, np.float32)
    _closed_loop(
        _ClosedLoop(
            n_samples=n_samples,
            hop=hop,
            order=filters.coefficients.shape[1],
            n_classes=config.n_classes,
            signal=np.ascontiguousarray(signal, np.float32),
            coefficients=filters.coefficients,
            excitation_scale=filters.excitation_scale,
            signal_scale=filters.signal_scale,
            noise=np.zeros(n_samples, np.int8) if noise is None else noise,
            edges=thresholds(config.n_classes),
            expansion=expansion_table(config.n_classes),
            codes=codes,
            rebuilt=rebuilt,
        )
    )
    return CodecTrace(codes[0], codes[1], codes[2], codes[3], rebuilt)


class _ClosedLoop(library.Struct):
    """See native/signal/codec.c."""

    _fields_ = (
        ("n_samples", library.Int),
        ("hop", library.Int),
        ("order", library.Int),
        ("n_classes", library.Int),
        ("signal", library.Floats),
        ("coefficients", library.Floats),
        ("excitation_scale", library.Floats),
        ("signal_scale", library.Floats),
        ("noise", library.SignedBytes),
        ("edges", library.Floats),
        ("expansion", library.Floats),
        ("codes", library.Int16s),
        ("rebuilt", library.Floats),
    )


_closed_loop = library.function("gru_closed_loop", [_ClosedLoop])
_de_emphasis = library.function(
    "gru_de_emphasis", [library.Floats, library.Int, library.Float, library.Float, library.Floats]
)
