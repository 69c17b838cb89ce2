"""Slow and obviously right versions of what the package computes fast, straight from the definitions."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
Codes = NDArray[np.int64]

# The output distribution


def sigmoid(values: Doubles) -> Doubles:
    with np.errstate(over="ignore"):
        return np.asarray(1 / (1 + np.exp(-values)))


def tree_probabilities(logits: Doubles) -> Doubles:
    """P of each code (Q,) from the Q - 1 nodes of a tree in heap order, a node's logit being that of bit 1."""

    def below(node: int, reached: float) -> list[float]:
        if node >= len(logits):
            return [reached]
        right = float(sigmoid(logits[node]))
        return below(2 * node + 1, reached * (1 - right)) + below(2 * node + 2, reached * right)

    return np.array(below(0, 1.0))


def inverse_cdf(probabilities: Doubles, uniform: float) -> int:
    """The first code at which the cumulative probability exceeds the uniform number."""
    total = 0.0
    for code, probability in enumerate(probabilities):
        total += probability
        if uniform < total:
            return code
    return int(np.flatnonzero(probabilities)[-1])


# The recurrent cells, in PyTorch's formulas and gate order


def gru_step(x: Doubles, h: Doubles, weights: Mapping[str, Doubles]) -> Doubles:
    """One step of torch.nn.GRU: reset, update and new gates; x (C,), h (H,)."""
    w_ir, w_iz, w_in = np.split(weights["weight_ih_l0"], 3)
    w_hr, w_hz, w_hn = np.split(weights["weight_hh_l0"], 3)
    b_ir, b_iz, b_in = np.split(weights["bias_ih_l0"], 3)
    b_hr, b_hz, b_hn = np.split(weights["bias_hh_l0"], 3)
    reset = sigmoid(w_ir @ x + b_ir + w_hr @ h + b_hr)
    update = sigmoid(w_iz @ x + b_iz + w_hz @ h + b_hz)
    new = np.tanh(w_in @ x + b_in + reset * (w_hn @ h + b_hn))
    return np.asarray((1 - update) * new + update * h)


def lstm_step(x: Doubles, h: Doubles, c: Doubles, weights: Mapping[str, Doubles]) -> tuple[Doubles, Doubles]:
    """One step of torch.nn.LSTM: input, forget, cell and output gates; x (C,), h and c (H,)."""
    gates = weights["weight_ih_l0"] @ x + weights["bias_ih_l0"]
    gates = gates + weights["weight_hh_l0"] @ h + weights["bias_hh_l0"]
    i, f, g, o = np.split(gates, 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def rnn_step(x: Doubles, h: Doubles, weights: Mapping[str, Doubles]) -> Doubles:
    """One step of torch.nn.RNN with tanh; x (C,), h (H,)."""
    inputs = weights["weight_ih_l0"] @ x + weights["bias_ih_l0"]
    return np.asarray(np.tanh(inputs + weights["weight_hh_l0"] @ h + weights["bias_hh_l0"]))


def recurrence(cell: str, inputs: Doubles, weights: Mapping[str, Doubles]) -> Doubles:
    """The hidden states (K, H) of a cell over inputs (K, C), from zeros."""
    h = c = np.zeros(weights["weight_hh_l0"].shape[1])
    states = []
    for x in inputs:
        if cell == "lstm":
            h, c = lstm_step(x, h, c, weights)
        else:
            h = gru_step(x, h, weights) if cell == "gru" else rnn_step(x, h, weights)
        states.append(h)
    return np.array(states)


# The long-term codes


def delayed_codes(history: Codes, lags: Doubles, n_samples: int, middle_code: int) -> Codes:
    """e[t - lag] for each of the last n_samples of a history; a frame's lag holds for its share of them."""
    delayed = []
    for t in range(n_samples):
        lag = round(float(lags[t // (n_samples // len(lags))]))
        now = len(history) - n_samples + t
        delayed.append(int(history[now - lag]) if lag else middle_code)
    return np.array(delayed)


# The codec


def mu_law_code(value: np.float32, thresholds: NDArray[np.float32]) -> int:
    """How many of the thresholds the value has reached."""
    return sum(1 for threshold in thresholds if value >= threshold)


def closed_loop(
    signal: NDArray[np.float32],
    coefficients: NDArray[np.float32],
    excitation_scale: NDArray[np.float32],
    signal_scale: NDArray[np.float32],
    noise: NDArray[np.int8],
    thresholds: NDArray[np.float32],
    expansion: NDArray[np.float32],
    history: Codes | None = None,
) -> tuple[Codes, NDArray[np.float32]]:
    """The closed loop of prediction and mu-law, one float32 operation at a time.

    With a history (T,) its codes are the noisy ones, whatever the noise.

    Returns:
        (4, T) codes of the target, the noisy excitation, the sample before and the prediction; (T,) rebuilt.
    """
    zero = np.float32(0)
    hop = len(signal) // len(coefficients)
    rebuilt: list[np.float32] = []
    rows = []
    for t, sample in enumerate(signal):
        frame = t // hop
        prediction = zero
        for k, coefficient in enumerate(coefficients[frame]):
            if t - 1 - k >= 0:
                prediction = prediction + coefficient * rebuilt[t - 1 - k]
        target = mu_law_code((sample - prediction) / excitation_scale[frame], thresholds)
        noisy = min(max(target + int(noise[t]), 0), len(thresholds)) if history is None else int(history[t])
        before = rebuilt[t - 1] if t else zero
        rows.append(
            [
                target,
                noisy,
                mu_law_code(before / signal_scale[frame], thresholds),
                mu_law_code(prediction / signal_scale[frame], thresholds),
            ]
        )
        rebuilt.append(prediction + excitation_scale[frame] * expansion[noisy])
    return np.array(rows, np.int64).T.reshape(4, len(signal)), np.array(rebuilt, np.float32)
