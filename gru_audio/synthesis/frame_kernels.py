"""From mel frames to what the sample loop needs of them, as one compiled function over a stream's frames.

numba, its LLVM and numpy alone, with the modules that hold the gates' exponential, the products and the linear
prediction. Nothing is allocated inside and the interpreter's lock is not held; the caller makes every array. A call
costs time for each array, so what belongs together is laid end to end in one. Shapes: see model.py; M bands.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from gru_audio.config import CONTEXT_FRAMES
from gru_audio.gates import exp_parts
from gru_audio.jit import compiled
from gru_audio.lpc import LANES, predict_lanes
from gru_audio.products import multiply

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
DoubleArray = npt.NDArray[np.float64]

FRAMES_AT_ONCE = 2 * LANES
"""Frames that go through the layers together, so that a layer's weights are fetched once for all of them."""

PITCH_FIRST, PITCH_SECOND, PITCH_OUTPUT, FIRST, SECOND, THIRD, FOURTH, GATES, READOUT = range(9)
"""The layers, in the order in which they run: rows of a plan."""
TILES, N_TILES, N_INPUTS, INPUT, INPUT_STRIDE, OUTPUT, OUTPUT_STRIDE, WIDTH, N_OUTPUTS = range(9)
"""A plan's columns: where a layer's tiles begin among the weights, and how many numbers they are; how many inputs it
has, where its first input row begins among the rows, and how far on the next; likewise for the output; how many
outputs its tiles have, and how many of them are not padding."""
LINEAR, NORMALISED, FEATURES = range(3)
"""Places among the rows: linear mel and normalised mel (CONTEXT_FRAMES + FRAMES_AT_ONCE, M), the frames before first;
the pitch features, beside the second layer."""
N_PITCH_FEATURES = 2

_REFINED_BINS = 2  # on each side of the likeliest lag
_ONE, _TWO = np.float32(1), np.float32(2)


@compiled()
def fill_block(
    mel: FloatArray,
    linear: FloatArray,
    plan: IntArray,
    places: tuple[int, int, int],
    weights: FloatArray,
    rows: FloatArray,
    units: tuple[float, float, float, float],
    band: IntArray,
    numbers: DoubleArray,
    scratch: DoubleArray,
    out: FloatArray,
    lags: IntArray,
) -> None:
    """Take F frames and compute those CONTEXT_FRAMES before each of them.

    Args:
        mel: (F, M).
        linear: (F, M), the filterbank's output that it stands for.
        plan: (9, 9), a row for each layer.
        places: three, among the rows.
        weights: the mel's mean and standard deviation (2, M), then all layers' tiles.
        rows: the stream's rows of all layers, with those of the frames before where a layer looks back.
        units: the first bin's lag in samples; the logarithm of the last bin's lag to the first's; `excitation_range`
            and `signal_range`.
        band: see lpc.PredictionTables.
        numbers: likewise.
        scratch: of the linear prediction.
        out: receives, end to end, gate inputs (F, G H), readout inputs (F, R), coefficients (F, P), excitation
            scales (F,) and signal scales (F,). A stream's first 2 CONTEXT_FRAMES mean nothing.
        lags: (F,) receives lags in whole samples.
    """
    n_all, n_mels = mel.shape
    n_gates, n_readout = plan[GATES, N_OUTPUTS], plan[READOUT, N_OUTPUTS]
    order = out.size // max(1, n_all) - n_gates - n_readout - 2
    filters = out[n_all * (n_gates + n_readout) :]
    for first in range(0, n_all, FRAMES_AT_ONCE):
        n_frames = min(FRAMES_AT_ONCE, n_all - first)
        _take_frames(mel[first:], linear[first:], n_frames, places, weights, rows)
        for layer in (PITCH_FIRST, PITCH_SECOND, PITCH_OUTPUT, FIRST, SECOND, THIRD, FOURTH, GATES, READOUT):
            _run_layer(plan[layer], n_frames, weights, rows)
            if layer == PITCH_OUTPUT:
                _decode_pitch(plan, places, n_frames, units, rows, lags[first:])
            elif layer < GATES:
                _tanh(plan[layer], n_frames, rows)
        _copy_rows(plan[GATES], n_frames, rows, out[first * n_gates :])
        _copy_rows(plan[READOUT], n_frames, rows, out[n_all * n_gates + first * n_readout :])
        for lane in range(0, n_frames, LANES):
            some = rows[places[LINEAR] + lane * n_mels :]
            if order:
                predict_lanes(some, min(LANES, n_frames - lane), n_mels, order, band, numbers, scratch)
            _copy_filters(scratch, order, units, first + lane, min(LANES, n_frames - lane), n_all, filters)
        _keep_context(plan, places, n_frames, n_mels, rows)


@compiled()
def _take_frames(
    mel: FloatArray,
    linear: FloatArray,
    n_frames: int,
    places: tuple[int, int, int],
    weights: FloatArray,
    rows: FloatArray,
) -> None:
    n_mels = mel.shape[1]
    for f in range(n_frames):
        start = (CONTEXT_FRAMES + f) * n_mels
        for m in range(n_mels):
            rows[places[LINEAR] + start + m] = linear[f, m]
            rows[places[NORMALISED] + start + m] = (mel[f, m] - weights[m]) / weights[n_mels + m]


@compiled()
def _keep_context(
    plan: IntArray, places: tuple[int, int, int], n_frames: int, n_mels: int, rows: FloatArray
) -> None:
    """Move the last frames to where the next call's frames before are."""
    for start, stride in (
        (places[LINEAR], n_mels),
        (places[NORMALISED], n_mels),
        (plan[SECOND, INPUT], plan[SECOND, INPUT_STRIDE]),
        (plan[PITCH_SECOND, INPUT], plan[PITCH_SECOND, INPUT_STRIDE]),
    ):
        for i in range(CONTEXT_FRAMES * stride):
            rows[start + i] = rows[start + n_frames * stride + i]


@compiled()
def _run_layer(layer: IntArray, n_frames: int, weights: FloatArray, rows: FloatArray) -> None:
    tiles = weights[layer[TILES] : layer[TILES] + layer[N_TILES]]
    inputs, outputs = rows[layer[INPUT] :], rows[layer[OUTPUT] :]
    multiply(inputs, layer[INPUT_STRIDE], 1, n_frames, tiles, layer[N_INPUTS], outputs, layer[OUTPUT_STRIDE])


@compiled()
def _tanh(layer: IntArray, n_frames: int, rows: FloatArray) -> None:
    """The hyperbolic tangent of a layer's outputs in place."""
    for f in range(n_frames):
        start = layer[OUTPUT] + f * layer[OUTPUT_STRIDE]
        _tanh_row(rows[start : start + layer[WIDTH]])


def _power_intrinsic(typingctx: Any, exponent: Any) -> Any:
    """2**exponent, made from its bits; a loop with it becomes vectors, which it does not with np.ldexp."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        integer = ir.IntType(32)
        biased = builder.add(arguments[0], ir.Constant(integer, 127))
        return builder.bitcast(builder.shl(biased, ir.Constant(integer, 23)), ir.FloatType())

    return types.float32(types.int32), codegen


_power_of_two: Any = intrinsic(_power_intrinsic)  # called without its first argument, numba's context


# Without `reassoc` and `arcp`, which let the last outputs of a row round otherwise than the vectors before them; and
# with numpy's division, since a loop that may raise does not become vectors.
@compiled(fastmath={"nnan", "ninf", "nsz", "contract"}, error_model="numpy")
def _tanh_row(row: FloatArray) -> None:
    """The hyperbolic tangent with an absolute error under 1e-6; see gates.exp_parts."""
    for j in range(row.size):
        mantissa, exponent = exp_parts(-_TWO * row[j])
        row[j] = _TWO / (_ONE + mantissa * _power_of_two(exponent)) - _ONE


@compiled()
def _decode_pitch(
    plan: IntArray,
    places: tuple[int, int, int],
    n_frames: int,
    units: tuple[float, float, float, float],
    rows: FloatArray,
    lags: IntArray,
) -> None:
    """Lags of the pitch head's outputs, and the conditioner's pitch features; see model.PitchHead.estimate."""
    n_bins = plan[PITCH_OUTPUT, N_OUTPUTS] - 1  # below 0 without a pitch head
    for f in range(n_frames):
        start = plan[PITCH_OUTPUT, OUTPUT] + f * plan[PITCH_OUTPUT, OUTPUT_STRIDE]
        voiced, position = 0, 0.0
        lags[f] = 0
        if n_bins > 0 and rows[start + n_bins] >= 0:
            voiced, position = 1, _lag_position(rows[start : start + n_bins])
            lags[f] = round(units[0] * np.exp(units[1] * position))
        features = places[FEATURES] + f * plan[SECOND, OUTPUT_STRIDE]
        rows[features] = voiced
        rows[features + 1] = voiced * (2 * position - 1)


@compiled()
def _lag_position(scores: FloatArray) -> float:
    """The likeliest lag by the scores (L,) of the bins, from 0 at the first bin to 1 at the last."""
    best, n_bins = 0, scores.size
    for i in range(n_bins):
        if scores[i] > scores[best]:
            best = i
    total = moment = 0.0
    for i in range(max(0, best - _REFINED_BINS), min(n_bins, best + _REFINED_BINS + 1)):
        weight = np.exp(np.float64(scores[i]) - np.float64(scores[best]))
        total += weight
        moment += weight * i
    return moment / total / (n_bins - 1)


@compiled()
def _copy_rows(layer: IntArray, n_frames: int, rows: FloatArray, out: FloatArray) -> None:
    """A layer's outputs without the padding."""
    size = layer[N_OUTPUTS]
    for f in range(n_frames):
        start = layer[OUTPUT] + f * layer[OUTPUT_STRIDE]
        given, copied = rows[start:], out[f * size :]
        for j in range(size):
            copied[j] = given[j]


@compiled()
def _copy_filters(
    results: DoubleArray,
    order: int,
    units: tuple[float, float, float, float],
    first: int,
    n_frames: int,
    n_all: int,
    filters: FloatArray,
) -> None:
    """Predictors and scales of up to LANES frames, from number `first` on; see lpc.frame_filters."""
    for f in range(n_frames):
        excitation_scale = signal_scale = 1.0
        for k in range(order):
            filters[(first + f) * order + k] = results[k * LANES + f]
        if order:
            excitation_scale = units[2] * results[order * LANES + f]
            signal_scale = units[3] * results[(order + 1) * LANES + f]
        filters[n_all * order + first + f] = excitation_scale
        filters[n_all * (order + 1) + first + f] = signal_scale
