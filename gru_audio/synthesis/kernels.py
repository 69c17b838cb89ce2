"""The sample loop as one compiled function, in float32, for a GRU with a tree output.

numba and numpy alone, with the two leaf modules that hold the gates and mu-law's coding. Nothing is
allocated inside and the interpreter's lock is not held. The caller makes and checks every array; see
folding.FoldedNetwork and frontend.FrameBlock for what they mean. Shapes: see model.py.
"""

import numpy as np
import numpy.typing as npt

from gru_audio.gates import gru_step
from gru_audio.jit import compiled
from gru_audio.mulaw import code_of

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

_ZERO, _ONE = np.float32(0), np.float32(1)


@compiled()
def generate(
    network: tuple[FloatArray, ...],
    signal: tuple[FloatArray, ...],
    frames: tuple[FloatArray, ...],
    lags: IntArray,
    uniforms: FloatArray,
    forced: IntArray,
    temperature: float,
    tail_cut: float,
    hidden: FloatArray,
    history: IntArray,
    past: FloatArray,
    last_audio: FloatArray,
    scratch: tuple[FloatArray, ...],
    exponent: npt.NDArray[np.int32],
    probability: FloatArray,
    audio: FloatArray,
) -> None:
    """Generate the samples of F frames, or weigh given ones.

    Args:
        network: step_tables (n, Q, 3H), recurrent (3H, H), recurrent_bias (3H,), readout_hidden (S R, H),
            its bias (S R,), readout_tables (n, Q, R), output (Q - 1, R) and its bias (Q - 1,).
        signal: mu-law edges (Q - 1,), mu-law expansion (Q,), pre-emphasis (1,).
        frames: gate_inputs (F, 3H), readout_inputs (F, R), coefficients (F, P), excitation_scale (F,),
            signal_scale (F,).
        lags: (F,), 0 where unvoiced.
        uniforms: (T,) in [0, 1).
        forced: (T,) codes that take the place of what would be drawn; empty for none.
        temperature: divides the logits.
        tail_cut: branches less likely are never taken.
        hidden: (H,) state, in place.
        history: (L + T,) excitation codes, the first L given.
        past: (P + T,) rebuilt signal, the first P given.
        last_audio: (1,) the sample before, in place.
        scratch: gates (3H,), product (3H,), kept (4, H), mantissa (2H,), readouts (S R,), row (R,).
        exponent: (2H,) scratch.
        probability: (T,) out, P of each code.
        audio: (T,) out.
    """
    (
        step_tables,
        recurrent,
        recurrent_bias,
        readout_hidden,
        readout_bias,
        readout_tables,
        output,
        output_bias,
    ) = network
    edges, expansion, pre_emphasis = signal
    gate_inputs, readout_inputs, coefficients, excitation_scale, signal_scale = frames
    gates, product, kept, mantissa, readouts, row = scratch
    n_frames, order = coefficients.shape
    size, stride = row.size, readouts.size // row.size
    n_past, hop = history.size - audio.size, audio.size // n_frames
    middle = (edges.size + 1) // 2
    for t in range(audio.size):
        frame, i = t // hop, t % stride
        at, lag = n_past + t, lags[t // hop]
        prediction = _predict(coefficients[frame], past, t)
        before_code = predicted_code = 0
        if order:
            before_code = code_of(past[order + t - 1] / signal_scale[frame], edges)
            predicted_code = code_of(prediction / signal_scale[frame], edges)
        if i == 0:
            gates[:] = gate_inputs[frame]
            for k in range(stride):
                _add(gates, step_tables[k, history[at - 1 - k]])
            if order:
                _add(gates, step_tables[stride, before_code])
                _add(gates, step_tables[stride + 1, predicted_code])
                for k in range(stride):
                    _add(gates, step_tables[stride + 2 + k, history[at + k - lag] if lag else middle])
            _multiply(recurrent, hidden, product)
            gru_step(gates, product, recurrent_bias, hidden, kept, mantissa, exponent)
            _multiply(readout_hidden, hidden, readouts)
            _add(readouts, readout_bias)
        row[:] = readouts[i * size : (i + 1) * size]
        _add(row, readout_inputs[frame])
        for k in range(stride):
            _add(row, readout_tables[k, history[at - 1 - k]])
        if order:
            _add(row, readout_tables[stride, before_code])
            _add(row, readout_tables[stride + 1, predicted_code])
            _add(row, readout_tables[stride + 2, history[at - lag] if lag else middle])
        for j in range(size):
            row[j] = max(row[j], _ZERO)
        leaf = forced[t] if forced.size else -1
        code, probability[t] = _walk(output, output_bias, row, uniforms[t], leaf, temperature, tail_cut)
        history[at] = code
        sample = prediction + excitation_scale[frame] * expansion[code]
        past[order + t] = sample
        last_audio[0] = sample + pre_emphasis[0] * last_audio[0]
        audio[t] = last_audio[0]


@compiled()
def _predict(coefficients: FloatArray, past: FloatArray, t: int) -> np.float32:
    """The prediction of sample t: `past` holds sample t - 1 at index P + t - 1."""
    total: np.float32 = _ZERO
    for k in range(coefficients.size):
        total += coefficients[k] * past[coefficients.size + t - 1 - k]
    return total


@compiled()
def _add(total: FloatArray, row: FloatArray) -> None:
    for j in range(total.size):
        total[j] += row[j]


@compiled(fastmath={"reassoc", "contract"})
def _multiply(matrix: FloatArray, vector: FloatArray, out: FloatArray) -> None:
    """Out = matrix vector, each sum in the order that suits the processor."""
    for i in range(matrix.shape[0]):
        out[i] = _dot(matrix[i], vector)


@compiled(fastmath={"reassoc", "contract"})
def _dot(a: FloatArray, b: FloatArray) -> np.float32:
    total: np.float32 = _ZERO
    for j in range(a.size):
        total += a[j] * b[j]
    return total


@compiled()
def _walk(
    output: FloatArray,
    bias: FloatArray,
    row: FloatArray,
    uniform: np.float32,
    leaf: int,
    temperature: float,
    tail_cut: float,
) -> tuple[int, np.float32]:
    """Draw a code, or go to `leaf` if that is not negative; see distribution.draw. Gives it and its probability.

    Only the nodes on the way are computed.
    """
    node, n_nodes, probability = 0, bias.size, _ONE
    half = (n_nodes + 1) // 2  # the bit of the code that the node decides
    while node < n_nodes:
        logit = (_dot(output[node], row) + bias[node]) / np.float32(temperature)
        right = _ONE / (_ONE + np.exp(-logit))
        if right < tail_cut:
            right = _ZERO
        elif right > 1 - tail_cut:
            right = _ONE
        left = _ONE - right
        # Never where nothing is left: the division may have rounded the number up to 1.
        if (leaf & half > 0) if leaf >= 0 else (uniform >= left and right > 0):
            uniform = (uniform - left) / right
            probability *= right
            node = 2 * node + 2
        else:
            uniform /= left
            probability *= left
            node = 2 * node + 1
        half //= 2
    return node - n_nodes, probability
