"""Slow and obviously right versions of what the package computes fast, straight from the definitions."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gru_audio.config import MelConfig
from gru_audio.signal.mel import analysis_window, filterbank
from gru_audio.signal.mulaw import expansion_table, thresholds
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


def largest_of_one_sign(rows: Doubles, n_blocks: int | None = None) -> Doubles:
    """The most that weights of one sign sum up to in two columns of two blocks of four that are multiplied together.

    Args:
        rows: (16, columns).
        n_blocks: how many blocks are kept, those that are not empty first; all if None.
    """
    blocks = [rows[:, first : first + 4] for first in range(0, rows.shape[1], 4)]
    if n_blocks is not None:
        full = [i for i, block in enumerate(blocks) if block.any()]
        empty = [i for i, block in enumerate(blocks) if not block.any()]
        blocks = [blocks[i] for i in sorted([*full, *empty][:n_blocks])]
    most = np.zeros(len(rows))
    for i in range(0, len(blocks), 2):
        pair = [*blocks[i : i + 2], np.zeros((len(rows), 4))][:2]
        for column in (0, 2):
            four = np.concatenate([block[:, column : column + 2] for block in pair], 1)
            for sign in (1, -1):
                most = np.maximum(most, np.maximum(sign * four, 0).sum(1))
    return most


def rounded_up(array: Doubles, *multiples: int) -> Doubles:
    """With zeros behind, so that the last axes are multiples."""
    short = [(0, -size % m) for size, m in zip(array.shape[-len(multiples) :], multiples, strict=True)]
    return np.pad(array, [(0, 0)] * (array.ndim - len(multiples)) + short)


def groups_of(weight: Doubles) -> list[Doubles]:
    """Each 16 rows of (rows, columns), with zeros up to whole ones."""
    padded = rounded_up(weight, 16, 32)
    return [padded[first : first + 16] for first in range(0, len(padded), 16)]


def unit_of_weights(weight: Doubles, n_blocks: int) -> Doubles:
    """(rows,), so that weights (rows, columns) in it fit into bytes, and two blocks' products into 16 bits.

    Of each 16 rows so many blocks are kept.
    """
    most = np.concatenate([largest_of_one_sign(group, n_blocks) for group in groups_of(weight)])
    return np.asarray(np.maximum(np.abs(weight).max(1) / 127, most[: len(weight)] / 253))


def most_blocks(weight: Doubles) -> int:
    """The most blocks of 16 rows of (rows, columns) that are not empty."""
    return max(sum(bool(g[:, c : c + 4].any()) for c in range(0, g.shape[1], 4)) for g in groups_of(weight))


def unit_of_readouts(weight: Doubles) -> Doubles:
    """The same of (S, rows, columns), in which of every 64 columns as many blocks are kept, an even number of them."""
    parts = [sample[:, first : first + 64] for sample in weight for first in range(0, weight.shape[2], 64)]
    most = max(most_blocks(part) for part in parts)
    return np.asarray(np.max([unit_of_weights(part, most + most % 2) for part in parts], axis=0))


class Int8Network:
    """A folded network of a GRU and a tree, quantised: sums in integers, all else in doubles.

    A row has a unit. Weights are stored in 64 units, since a state of 1 is 64, and table rows in 127 units; the new
    gate's product has twice the unit of its inputs.
    """

    def __init__(self, network: FoldedNetwork) -> None:
        model = network.config.model
        size, shape = model.gru_size, (model.samples_per_step, model.readout_size, model.gru_size)
        recurrent = network.recurrent.astype(np.float64).reshape(3, size, size)
        self.own = np.einsum("gii->gi", recurrent)
        recurrent = recurrent * (1 - np.eye(size))
        tables = network.step_tables.astype(np.float64).reshape(*network.step_tables.shape[:2], 3, size)
        factor = np.array([1, 1, 2])[:, None]
        units = np.stack([unit_of_weights(gate, most_blocks(gate)) for gate in recurrent]) / 64 / factor
        self.units = np.maximum(units, np.abs(tables).max((0, 1)) / 127**2)  # (3, H)
        self.product_units = self.units * factor
        self.weight = np.rint(recurrent / (64 * self.product_units[:, :, None])).astype(np.int64)
        self.tables = np.rint(tables / (127 * self.units)).astype(np.int64)
        self.new_bias = np.rint(network.recurrent_bias[2 * size :] / self.product_units[2])

        weight = network.readout_hidden.astype(np.float64).reshape(shape)
        read = network.readout_tables.astype(np.float64)
        self.readout_units = np.maximum(unit_of_readouts(weight) / 64, np.abs(read).max((0, 1)) / 127**2)
        self.readout_weight = np.rint(weight / (64 * self.readout_units[:, None])).astype(np.int64)
        self.readout_tables = np.rint(read / (127 * self.readout_units)).astype(np.int64)
        bias = network.readout_hidden_bias.reshape(shape[:2])
        self.readout_bias = np.rint(bias / self.readout_units)
        largest = (np.abs(weight).sum(2).max(0) + np.abs(read).max(1).sum(0)).max() + np.abs(bias).max()
        self.step_of_y = (largest + np.abs(network.readout_conditioning).sum(1).max()) / (2**14 - 1)

        output = rounded_up(network.output.astype(np.float64), 1, 16)
        units = np.array([largest_of_one_sign(row[None])[0] / 253 for row in output])
        self.output_units = np.maximum(units, np.abs(output).max(1) / 127)
        self.output = np.rint(network.output / self.output_units[:, None]).astype(np.int64)
        self.output_bias = network.output_bias

    def step(self, codes: Codes, frame: Doubles, h: Doubles) -> Doubles:
        """The next state (H,) from the codes of the step's tables and the frame's gates (3H,)."""
        inputs = 127 * sum(table[code] for table, code in zip(self.tables, codes, strict=True))
        inputs = inputs + np.rint(frame.reshape(3, -1) / self.units)
        products = self.weight @ np.rint(64 * h).astype(np.int64)  # (3, H)
        gates = self.units[:2] * (inputs[:2] + products[:2]) + self.own[:2] * h
        inner = self.product_units[2] * (products[2] + self.new_bias) + self.own[2] * h
        new = np.tanh(self.units[2] * inputs[2] + sigmoid(gates[0]) * inner)
        return np.asarray(new + sigmoid(gates[1]) * (h - new))

    def logits(self, i: int, codes: Codes, frame: Doubles, h: Doubles) -> Doubles:
        """The tree's logits (Q - 1,) for the i-th sample of a step."""
        sums = 127 * sum(table[code] for table, code in zip(self.readout_tables, codes, strict=True))
        sums = sums + np.rint(frame / self.readout_units) + self.readout_bias[i]
        sums = sums + self.readout_weight[i] @ np.rint(64 * h).astype(np.int64)
        y = np.rint(np.maximum(self.readout_units * sums, 0) / self.step_of_y)
        return np.asarray(self.output_units * self.step_of_y * (self.output @ y) + self.output_bias)


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
    network: FoldedNetwork, block: FrameBlock, codes: Codes, past: Codes, **sampling: Any
) -> Doubles:
    """`intervals` of a network in int8."""
    return intervals(network, Int8Network(network), block, codes, past, **sampling)


def intervals(
    network: FoldedNetwork,
    layers: "Int8Network | FloatNetwork",
    block: FrameBlock,
    codes: Codes,
    past: Codes,
    temperature: float = 1.0,
    tail_cut: float = 0.0,
) -> Doubles:
    """The `intervals_of` what `all_logits` gives: (2, T)."""
    return intervals_of(all_logits(network, layers, block, codes, past), codes, temperature, tail_cut)


def intervals_of(
    logits: list[Doubles], codes: Codes, temperature: float = 1.0, tail_cut: float = 0.0
) -> Doubles:
    """The `interval_of` each given code (T,) under its logits: (2, T).

    Args:
        logits: T of a tree.
        codes: of the excitation.
        temperature: divides the logits.
        tail_cut: branches less likely are never taken.
    """
    found = [
        interval_of(each / temperature, int(code), tail_cut) for each, code in zip(logits, codes, strict=True)
    ]
    return np.asarray(np.array(found).T, np.float64)


def all_logits(
    network: FoldedNetwork,
    layers: "Int8Network | FloatNetwork",
    block: FrameBlock,
    codes: Codes,
    past: Codes,
) -> list[Doubles]:
    """The logits of each of the given codes (T,), after those before it.

    Args:
        network: a GRU with a tree.
        layers: the same, as an engine computes it.
        block: its F frames.
        codes: of the excitation.
        past: what came before; it is as long as the longest lag.
    """
    config, filters = network.config, block.filters
    order, stride = config.signal.lpc_order, config.model.samples_per_step
    edges, expansion = thresholds(config.signal.n_classes), expansion_table(config.signal.n_classes)
    hop, rebuilt, history = len(codes) // len(block), [np.float32(0)] * order, [*past, *codes]
    h, found = np.zeros(config.model.gru_size), []
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
        found.append(layers.logits(t % stride, read, block.readout_inputs[frame], h))
        rebuilt.append(prediction + filters.excitation_scale[frame] * expansion[code])
    return found


# The spectral correction


class Overlapped:
    """Frames (width,) that lie `hop` apart, the first of them at `before`, and what they add up to."""

    def __init__(self, window: Doubles, hop: int, before: int, n_samples: int) -> None:
        self.window, self.hop, self.before = window, hop, before
        self.n_samples, self.frames = n_samples, dict[int, Doubles]()

    def place(self, frame: int) -> slice:
        start = self.before + frame * self.hop
        return slice(start, start + len(self.window))

    def sums(self) -> tuple[Doubles, Doubles]:
        """The sum of the frames, and what is missing of the windows' squares to a third of all."""
        sums, weights = np.zeros(self.n_samples), np.zeros(self.n_samples)
        for frame, made in self.frames.items():
            sums[self.place(frame)] += made
            weights[self.place(frame)] += self.window**2
        missing = np.maximum(np.sum(self.window**2) / self.hop / 3 - weights, 0)
        return sums / (weights + missing), missing / (weights + missing)


def corrected(
    audio: NDArray[np.float32],
    targets: Doubles,
    config: MelConfig,
    n_rounds: int,
    *,
    with_low_end: bool = True,
    with_contrast: bool = True,
) -> Doubles:
    """A whole clip (F * hop,) corrected towards a linear mel (F, M), silence around it."""
    hop, width, exponent = config.hop_samples, config.window_samples, 1.5
    outside = (config.n_fft - width) // 2
    window = analysis_window(config)[outside : outside + width].astype(np.float64)
    bank = filterbank(config).astype(np.float64)
    shares = bank / np.where(bank.sum(0) > 0, bank.sum(0), 1)
    power = 2 if config.spectrum == "power" else 1
    pre_emphasis = np.fft.rfft([1, -config.preemphasis], config.n_fft)
    bank = bank * np.abs(pre_emphasis) ** power  # the mel's, of which audio that is heard has none
    # Samples by which a window begins before its frame, around whose middle it lies.
    before = config.n_fft // 2 - hop // 2 - outside
    n_open, margin = 1 + -(-before // hop), 2 * config.n_fft
    padded = np.pad(audio.astype(np.float64), margin)
    whole = Overlapped(window, hop, margin - before, padded.size)
    low = LowEnd(config, window, bank, shares, len(padded))
    low.is_there = low.is_there and with_low_end

    def towards_the_mel(stretch: Doubles, frame: int) -> Doubles:
        spectrum = np.fft.rfft(stretch * window, config.n_fft)
        ratio = np.maximum(targets[frame], 1e-20) / np.maximum(bank @ np.abs(spectrum) ** power, 1e-20)
        of_bands = np.log(np.clip(ratio, 1 / 6, 6)) * exponent / power
        spectrum *= np.exp(shares.T @ of_bands)
        low.put(spectrum, frame)
        return np.asarray(np.fft.irfft(spectrum, config.n_fft)[:width] * window)

    if with_contrast:
        targets = sharpened(targets, config, n_open - 1, -(-(width - before - hop) // hop))
    parts = []
    for newest in range(len(targets) + n_open - 1):
        opened = range(max(0, newest - n_open + 1), min(newest + 1, len(targets)))
        low.run(opened, [padded[whole.place(frame)] * window for frame in opened], targets, 24)
        for frames in [opened[-1:] if newest in opened else [], *[opened] * n_rounds]:
            sums, missing = whole.sums()
            known = sums + missing * padded
            for frame in frames:
                whole.frames[frame] = towards_the_mel(known[whole.place(frame)], frame)
        out = newest - n_open + 1
        if out >= 0:
            sums, missing = whole.sums()
            parts.append((sums + missing * padded)[margin + out * hop : margin + (out + 1) * hop])
    return np.concatenate(parts)


def sharpened(mel: Doubles, config: MelConfig, n_before: int = 2, n_after: int = 2) -> Doubles:
    """What a linear mel (F, M) is corrected towards: with more contrast, the same energy, and 0 where it is silent."""
    logs, power = np.log(np.maximum(mel, config.floor)), 2 if config.spectrum == "power" else 1
    near, (n_frames, n_mels) = 3 * config.n_mels // 16, mel.shape
    sharp = np.empty_like(logs)
    for f, frame in enumerate(logs):
        of_frames = logs[max(0, f - min(2, n_before)) : min(n_frames, f + min(2, n_after) + 1)].mean(0)
        of_bands = [frame[max(0, m - near) : min(n_mels, m + near + 1)].mean() for m in range(n_mels)]
        change = 0.15 * (frame - of_bands) + 0.2 * (frame - of_frames)
        most = power * 3 / 20 * np.log(10)
        sharp[f] = np.maximum(frame + np.clip(change, -most, most), np.log(config.floor))
    energies = [np.exp(2 / power * part).sum(1, keepdims=True) for part in (logs, sharp)]
    linear = np.maximum(np.exp(sharp) * (energies[0] / energies[1]) ** (power / 2), config.floor)
    if config.floor <= (1e-8 if config.spectrum == "power" else 1e-4):  # then nothing below it can be heard
        linear = np.where(mel > 1.03 * config.floor, linear, 0)
    return np.asarray(linear)


class LowEnd:
    """Every so many samples of a clip, whose spectra are the lowest bins; nothing where a contract has none."""

    def __init__(
        self, config: MelConfig, window: Doubles, bank: Doubles, shares: Doubles, n_samples: int
    ) -> None:
        self.config, self.spectra = config, dict[int, NDArray[np.complex128]]()
        self.division = next(
            n
            for n in (64, 32, 16, 8, 4, 2, 1)
            if config.sample_rate_hz / n >= 2000
            and config.hop_samples % n == config.window_samples % n == 0
            and (n == 1 or config.n_fft % (128 * n) == 0)
        )
        self.size = config.n_fft // self.division
        n_bins = self.size // 2 + 1
        n_bands = int(np.argmax(bank[:, n_bins - 1 :].any(1)))  # wholly below its highest bin
        self.is_there = self.division > 1 and n_bands > 0
        self.bank, self.shares = bank[:n_bands, :n_bins], shares[:n_bands, :n_bins]
        self.covered = self.shares.sum(0)
        hop = config.hop_samples // self.division
        self.overlapped = Overlapped(window[:: self.division], hop, 0, n_samples)

    def run(self, opened: range, raw: list[Doubles], targets: Doubles, n_rounds: int) -> None:
        """Take the open frames, whose raw audio under the window is given, through rounds."""
        if not self.is_there:
            return
        window, power = self.overlapped.window, 2 if self.config.spectrum == "power" else 1
        spectra = np.fft.rfft(np.reshape(raw, (-1, self.config.window_samples)), self.config.n_fft)
        spectra = spectra[:, : self.size // 2 + 1] / self.division
        spectra[:, -1] = 0
        lowered = np.fft.irfft(spectra, self.size)[:, : len(window)]
        before: dict[int, Doubles] = {}
        for _ in range(n_rounds):
            sums, missing = self.overlapped.sums()
            made: dict[int, Doubles] = {}
            for frame, its_raw in zip(opened, lowered, strict=True):
                place = self.overlapped.place(frame)
                now = window * sums[place] + missing[place] * its_raw
                spectrum = np.fft.rfft(now + 0.9 * (now - before.get(frame, now)), self.size)
                before[frame] = now
                found = self.bank @ (self.division * np.abs(spectrum)) ** power
                ratio = np.maximum(targets[frame, : len(found)], 1e-20) / np.maximum(found, 1e-20)
                spectrum *= 1 + self.shares.T @ (np.clip(ratio, 1 / 6, 6) ** (1 / power) - 1)
                spectrum[-1] = 0
                self.spectra[frame] = spectrum * self.division
                made[frame] = np.fft.irfft(spectrum, self.size)[: len(window)] * window
            self.overlapped.frames |= made

    def put(self, spectrum: NDArray[np.complex128], frame: int) -> None:
        """Put a frame's low end in its place."""
        if self.is_there:
            n_bins = len(self.covered)
            spectrum[:n_bins] += self.covered * (self.spectra[frame] - spectrum[:n_bins])


# The float32 engine's network


class FloatNetwork:
    """A folded network of a GRU and a tree, in doubles."""

    def __init__(self, network: FoldedNetwork) -> None:
        self.network = network

    def step(self, codes: Codes, frame: Doubles, h: Doubles) -> Doubles:
        """The next state (H,) from the codes of the step's tables and the frame's gates (3H,)."""
        network = self.network
        rows = sum(
            table[code].astype(np.float64) for table, code in zip(network.step_tables, codes, strict=True)
        )
        r, z, n = np.split(frame + rows, 3)
        product_r, product_z, product_n = np.split(network.recurrent @ h + network.recurrent_bias, 3)
        new = np.tanh(n + sigmoid(r + product_r) * product_n)
        return np.asarray(new + sigmoid(z + product_z) * (h - new))

    def logits(self, i: int, codes: Codes, frame: Doubles, h: Doubles) -> Doubles:
        """The tree's logits (Q - 1,) for the i-th sample of a step."""
        network, n_readout = self.network, self.network.config.model.readout_size
        own = slice(i * n_readout, (i + 1) * n_readout)
        rows = sum(table[code] for table, code in zip(network.readout_tables, codes, strict=True))
        row = network.readout_hidden[own] @ h + network.readout_hidden_bias[own] + frame + rows
        return np.asarray(network.output @ np.maximum(row, 0) + network.output_bias)
