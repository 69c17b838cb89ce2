"""Slow and obviously right versions of what the package computes fast, straight from the definitions."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from gru_audio.mulaw import expansion_table, thresholds
from gru_audio.synthesis.folding import FoldedNetwork
from gru_audio.synthesis.frontend import FrameBlock

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


def mu_law_code(value: np.float32, edges: NDArray[np.float32]) -> int:
    """How many of the edges the value has reached."""
    return sum(1 for edge in edges if value >= edge)


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


# The int8 engine's network


class Int8Rows:
    """Rows of int8 weights and table rows, each row in a unit of its own.

    Attributes:
        units: (rows,).
        weight: (..., rows, columns) integers, in 127 units.
        tables: (n, Q, rows) integers, in 256 units.
    """

    def __init__(self, weight: Doubles, tables: Doubles) -> None:
        largest = np.abs(weight).max(-1).reshape(-1, weight.shape[-2]).max(0)
        self.units = np.maximum(largest / 127**2, np.abs(tables).max((0, 1)) / (256 * 127))
        self.weight = np.rint(weight / (127 * self.units[:, None])).astype(np.int64)
        self.tables = np.rint(tables / (256 * self.units)).astype(np.int64)

    def inputs(self, codes: Codes, frame: Doubles) -> Codes:
        """The rows of some codes (n,), one a table, and a frame's inputs (rows,)."""
        rows = sum(table[code] for table, code in zip(self.tables, codes, strict=True))
        return np.asarray(256 * rows + np.rint(frame / self.units).astype(np.int64))


class Int8Network:
    """A folded network of a GRU and a tree, quantised: sums in integers, all else in doubles."""

    def __init__(self, network: FoldedNetwork) -> None:
        model = network.config.model
        size, shape = model.gru_size, (model.samples_per_step, model.readout_size, model.gru_size)
        recurrent = network.recurrent.astype(np.float64).reshape(3, size, size)
        self.own = np.einsum("gii->gi", recurrent)
        recurrent = recurrent * (1 - np.eye(size))
        self.gru = Int8Rows(recurrent.reshape(3 * size, size), network.step_tables.astype(np.float64))
        self.new_bias = np.rint(network.recurrent_bias[2 * size :] / self.gru.units[2 * size :])
        weight = network.readout_hidden.astype(np.float64).reshape(shape)
        self.readout = Int8Rows(weight, network.readout_tables.astype(np.float64))
        self.readout_bias = np.rint(network.readout_hidden_bias.reshape(shape[:2]) / self.readout.units)
        self.output_units = np.abs(network.output).max(1) / 127
        self.output = np.rint(network.output / self.output_units[:, None]).astype(np.int64)
        self.output_bias = network.output_bias

    def step(self, codes: Codes, frame: Doubles, h: Doubles) -> Doubles:
        """The next state (H,) from the codes of the step's tables and the frame's gates (3H,)."""
        units_r, units_z, units_n = np.split(self.gru.units, 3)
        r, z, n = np.split(self.gru.inputs(codes, frame), 3)
        product_r, product_z, product_n = np.split(self.gru.weight @ np.rint(127 * h).astype(np.int64), 3)
        reset = sigmoid(units_r * (r + product_r) + self.own[0] * h)
        update = sigmoid(units_z * (z + product_z) + self.own[1] * h)
        new = np.tanh(units_n * n + reset * (units_n * (product_n + self.new_bias) + self.own[2] * h))
        return np.asarray(new + update * (h - new))

    def logits(self, i: int, codes: Codes, frame: Doubles, h: Doubles) -> Doubles:
        """The tree's logits (Q - 1,) for the i-th sample of a step."""
        sums = self.readout.weight[i] @ np.rint(127 * h).astype(np.int64) + self.readout.inputs(codes, frame)
        values = np.maximum(self.readout.units * (sums + self.readout_bias[i]), 0)
        unit = max(values.max(), 1e-20) / 127
        return np.asarray(
            self.output_units * unit * (self.output @ np.rint(values / unit)) + self.output_bias
        )


def interval_of(logits: Doubles, code: int, tail_cut: float = 0.0) -> tuple[float, float]:
    """Where a code lies in the cumulative distribution of a tree: from P of those below it to that and its own."""
    node, low, high = 0, 0.0, 1.0
    bit = (len(logits) + 1) // 2
    while bit:
        right = float(sigmoid(logits[node]))
        right = 0.0 if right < tail_cut else 1.0 if right > 1 - tail_cut else right
        middle = low + (high - low) * (1 - right)
        low, high, node = (middle, high, 2 * node + 2) if code & bit else (low, middle, 2 * node + 1)
        bit //= 2
    return low, high


def int8_intervals(
    network: FoldedNetwork,
    block: FrameBlock,
    codes: Codes,
    past: Codes,
    temperature: float = 1.0,
    tail_cut: float = 0.0,
) -> Doubles:
    """The `interval_of` each given code (T,) after those before it: (2, T).

    Args:
        network: a GRU with a tree.
        block: its F frames.
        codes: of the excitation.
        past: what came before; it is as long as the longest lag.
        temperature: divides the logits.
        tail_cut: branches less likely are never taken.
    """
    config, filters, layers = network.config, block.filters, Int8Network(network)
    order, stride = config.signal.lpc_order, config.model.samples_per_step
    edges, expansion = thresholds(config.signal.n_classes), expansion_table(config.signal.n_classes)
    hop, rebuilt, history = len(codes) // len(block), [np.float32(0)] * order, [*past, *codes]
    h, intervals = np.zeros(config.model.gru_size), []
    for t, code in enumerate(codes):
        frame, at = t // hop, len(past) + t
        prediction = np.float32(0)
        for k in range(order):
            prediction += filters.coefficients[frame, k] * rebuilt[-1 - k]
        before = [history[at - 1 - k] for k in range(stride)]
        levels, delayed = [], []
        if order:
            scale, lag = filters.signal_scale[frame], block.lags[frame]
            levels = [mu_law_code(value / scale, edges) for value in (rebuilt[-1], prediction)]
            delayed = [history[at + k - lag] if lag else len(expansion) // 2 for k in range(stride)]
        if t % stride == 0:
            h = layers.step(np.array(before + levels + delayed), block.gate_inputs[frame], h)
        read = np.array(before + levels + delayed[:1])
        logits = layers.logits(t % stride, read, block.readout_inputs[frame], h)
        intervals.append(interval_of(logits / temperature, int(code), tail_cut))
        rebuilt.append(prediction + filters.excitation_scale[frame] * expansion[code])
    return np.asarray(np.array(intervals).T, np.float64)
