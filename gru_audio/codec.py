"""The codec around the network: pre-emphasis, and the closed loop of prediction and mu-law excitation.

Both training and synthesis see the signal only through this loop: sample t is predicted from what was
*rebuilt* before it, and the mu-law code of the rest is what the network models (design 1.3, 1.5, 1.6).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gru_audio.config import SignalConfig
from gru_audio.jit import compiled
from gru_audio.lpc import FrameFilters
from gru_audio.mel import FloatArray
from gru_audio.mulaw import code_of, expansion_table, thresholds

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
    audio = np.empty_like(signal)
    _de_emphasis(signal, np.float32(coefficient), np.float32(previous), audio)
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
        np.ascontiguousarray(signal, np.float32),
        filters.coefficients,
        filters.excitation_scale,
        filters.signal_scale,
        hop,
        np.zeros(n_samples, np.int8) if noise is None else noise,
        thresholds(config.n_classes),
        expansion_table(config.n_classes),
        codes,
        rebuilt,
    )
    return CodecTrace(codes[0], codes[1], codes[2], codes[3], rebuilt)


@compiled()
def _closed_loop(
    signal: FloatArray,
    coefficients: FloatArray,
    excitation_scale: FloatArray,
    signal_scale: FloatArray,
    hop: int,
    noise: npt.NDArray[np.int8],
    edges: FloatArray,
    expansion: FloatArray,
    codes: CodeArray,
    rebuilt: FloatArray,
) -> None:
    order = coefficients.shape[1]
    last_code = edges.size
    for t in range(signal.size):
        frame = t // hop
        prediction = np.float32(0.0)
        for k in range(min(order, t)):
            prediction += coefficients[frame, k] * rebuilt[t - 1 - k]
        scale = excitation_scale[frame]
        target = code_of((signal[t] - prediction) / scale, edges)
        excitation = min(max(target + noise[t], 0), last_code)
        before = rebuilt[t - 1] if t else np.float32(0.0)
        codes[0, t] = target
        codes[1, t] = excitation
        codes[2, t] = code_of(before / signal_scale[frame], edges)
        codes[3, t] = code_of(prediction / signal_scale[frame], edges)
        rebuilt[t] = prediction + scale * expansion[excitation]


@compiled()
def _de_emphasis(signal: FloatArray, coefficient: float, previous: float, audio: FloatArray) -> None:
    for t in range(signal.size):
        previous = signal[t] + coefficient * previous
        audio[t] = previous
