"""The sample loop in torch, one frame at a time, for any cell, output, device and number of streams.

Everything a frame reads and writes lies in tensors that stay where they are, and the operations do not
depend on what these hold, so that a frame can be captured once as a CUDA graph and replayed; see graph.py.
Shapes: see model.py; G gates as in folding.py, S samples a step, L the longest lag, P the order of the
linear prediction, N tables.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from gru_audio.arrays import FloatArray
from gru_audio.network.distribution import drawn, probabilities
from gru_audio.signal.mulaw import expansion_table, group_means, thresholds
from gru_audio.synthesis.folding import FoldedNetwork
from gru_audio.synthesis.sampling import MEAN_BITS, N_TAPS, PLAIN, VoicedDraws
from gru_audio.synthesis.torch_engine.graph import replayable


class DeviceNetwork:
    """A folded network's arrays on a device, float32."""

    def __init__(self, network: FoldedNetwork, device: torch.device) -> None:
        """Move them there."""
        self.config, self.device = network.config, device
        n_classes = network.config.signal.n_classes

        def place(array: FloatArray) -> Tensor:
            return torch.from_numpy(array.copy()).to(device)

        self.step_tables = place(network.step_tables).flatten(0, 1)  # (N Q, G H)
        self.readout_tables = place(network.readout_tables).flatten(0, 1)  # (N Q, R)
        self.step_rows = self._first_rows(len(network.step_tables))  # (N,)
        self.readout_rows = self._first_rows(len(network.readout_tables))  # (N,)
        self.recurrent, self.recurrent_bias = place(network.recurrent).T, place(network.recurrent_bias)
        self.readout, self.readout_bias = (
            place(network.readout_hidden).T,
            place(network.readout_hidden_bias),
        )
        self.output, self.output_bias = place(network.output).T, place(network.output_bias)
        self.edges, self.expansion = place(thresholds(n_classes)), place(expansion_table(n_classes))
        self.group_means = place(group_means(n_classes, 1 << MEAN_BITS))

    def step_sum(self, codes: Tensor) -> Tensor:
        """What a step's codes (B, N), the past oldest first, add to its gates (B, G H)."""
        return functional.embedding(codes + self.step_rows, self.step_tables).sum(1)

    def readout_sum(self, codes: Tensor) -> Tensor:
        """What a sample's codes (B, N), the past oldest first, add to its readout (B, R)."""
        return functional.embedding(codes + self.readout_rows, self.readout_tables).sum(1)

    def _first_rows(self, n_tables: int) -> Tensor:
        """The row at which each table begins, in the order of the codes: the tables' past is newest first."""
        stride = self.config.model.samples_per_step
        order = [*reversed(range(stride)), *range(stride, n_tables)]
        return torch.tensor(order, device=self.device) * self.config.signal.n_classes


@dataclass
class FrameInputs:
    """What one frame of B streams is made from; a block of k frames has k after B.

    Attributes:
        gate_inputs: (B, G H), conditioning and biases of the gates.
        readout_inputs: (B, R), the conditioning of the readout.
        coefficients: (B, P), for the oldest sample first.
        excitation_scale: (B,).
        signal_scale: (B,).
        lags: (B,) int64, 0 where unvoiced.
        uniforms: (B, hop) in [0, 1).
    """

    gate_inputs: Tensor
    readout_inputs: Tensor
    coefficients: Tensor
    excitation_scale: Tensor
    signal_scale: Tensor
    lags: Tensor
    uniforms: Tensor

    def take(self, block: "FrameInputs", frame: int) -> None:
        """Become one frame of a block."""
        for name, tensor in vars(self).items():
            tensor.copy_(getattr(block, name)[:, frame])


@dataclass
class TorchState:
    """B streams between two frames.

    Attributes:
        hidden: (B, H) recurrent state.
        cell: (B, H) the LSTM's cell state; unused by the others.
        codes: (B, L) the last excitation codes, newest last.
        rebuilt: (B, P) the last pre-emphasised samples, newest last.
        audio: (B, 1) the last sample.
        noise: (B, 3) deviations of the last excitations from their means, newest last; see `sampling.VoicedDraws`.
    """

    hidden: Tensor
    cell: Tensor
    codes: Tensor
    rebuilt: Tensor
    audio: Tensor
    noise: Tensor

    def take(self, other: "TorchState") -> None:
        """Become as another state, in place."""
        for name, tensor in vars(self).items():
            tensor.copy_(getattr(other, name))


class SamplePlaces(NamedTuple):
    """Where one sample of a frame is read from and written to: views, made once, as each takes as long as work on it.

    Attributes:
        last: (B, S) the last codes, oldest first.
        recent: (B, P) the last pre-emphasised samples.
        rebuilt: (B,) the sample's own place beside them.
        newest: (B, 2) the last of them and that.
        delayed_at: (B, 1) where in the history its lag leads.
        code: (B,) its place in the history.
        before: (B,) the sample of audio before it.
        audio: (B,) its own.
        uniforms: (B,).
    """

    last: Tensor
    recent: Tensor
    rebuilt: Tensor
    newest: Tensor
    delayed_at: Tensor
    code: Tensor
    before: Tensor
    audio: Tensor
    uniforms: Tensor


class SampleLoop:
    """The samples of one frame of B streams, from and to tensors that stay where they are.

    Attributes:
        inputs: to be filled before each run.
        state: before the first run that of the streams; each run takes it on by one frame.
        audio: (B, hop), what the last run made.
        run: generates a frame.
    """

    def __init__(
        self,
        network: DeviceNetwork,
        n_streams: int,
        temperature: float,
        tail_cut: float,
        voiced: VoicedDraws = PLAIN,
        *,
        captured: bool = True,
    ) -> None:
        """Make the tensors, and on a GPU capture the frame, unless it is used too seldom to pay.

        For the settings see `distribution.probabilities`.
        """
        self._network, self._tail_cut, self._voiced = network, tail_cut, voiced
        config, device = network.config, network.device
        self._hop, self._order = config.mel.hop_samples, config.signal.lpc_order
        self._stride = config.model.samples_per_step
        self._first = 1 + config.lag_max_samples  # the place of the frame's first code

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(n_streams, *shape, dtype=torch.float32, device=device)

        self.inputs = FrameInputs(
            gate_inputs=zeros(network.step_tables.shape[1]),
            readout_inputs=zeros(config.model.readout_size),
            coefficients=zeros(self._order),
            excitation_scale=zeros(),
            signal_scale=zeros() + 1,  # what is left so is divided by
            lags=zeros().long(),
            uniforms=zeros(self._hop),
        )
        self._signal_scale = self.inputs.signal_scale[:, None]
        # A middle code that never changes, which unvoiced samples read; the last L codes; the frame's.
        middle = config.signal.n_classes // 2
        self._history = torch.full((n_streams, self._first + self._hop), middle, device=device)
        self._positions = torch.arange(self._first, self._first + self._hop, device=device)
        self._delayed_at = zeros(self._hop).long()  # where in the history each sample's lag leads
        self._past = zeros(self._order + self._hop)  # the last P samples and the frame's
        self._audio = zeros(1 + self._hop)  # the last sample and the frame's
        self.audio = self._audio[:, 1:]
        self.state = TorchState(
            hidden=zeros(config.model.gru_size),
            cell=zeros(config.model.gru_size),
            codes=self._history[:, 1 : self._first],
            rebuilt=self._past[:, : self._order],
            audio=self._audio[:, :1],
            noise=zeros(N_TAPS),
        )
        self._temperature = zeros(1)
        self._is_voiced = zeros().bool()
        self._places = [self._place(t) for t in range(self._hop)]

        def numbers(values: Sequence[float]) -> Tensor:
            return torch.tensor(values, dtype=torch.float32, device=device)

        self._taps = numbers(voiced.taps[::-1])  # for the oldest first
        self._temperatures = numbers([temperature, temperature * voiced.temperature])
        self.run = replayable(self.run_frame, device) if captured else self.run_frame

    def _place(self, t: int) -> SamplePlaces:
        """Those of sample t."""
        at, now = self._first + t, self._order + t
        return SamplePlaces(
            last=self._history[:, at - self._stride : at],
            recent=self._past[:, t:now],
            rebuilt=self._past[:, now],
            newest=self._past[:, max(now - 1, 0) : now + 1],
            delayed_at=self._delayed_at[:, t : t + 1],
            code=self._history[:, at],
            before=self._audio[:, t],
            audio=self._audio[:, t + 1],
            uniforms=self.inputs.uniforms[:, t],
        )

    def run_frame(self) -> None:
        """Generate the frame's samples, and be ready for the next."""
        inputs, state, network = self.inputs, self.state, self._network
        lags = inputs.lags[:, None]
        torch.gt(inputs.lags, 0, out=self._is_voiced)
        is_voiced = self._is_voiced[:, None]
        self._temperature.copy_(torch.where(is_voiced, self._temperatures[1], self._temperatures[0]))
        self._delayed_at.copy_(torch.where(is_voiced, self._positions - lags, 0))
        self._past[:, self._order :].zero_()
        start = network.readout_bias + inputs.readout_inputs.repeat(1, self._stride)  # (B, S R)
        for first in range(0, self._hop, self._stride):
            codes = self.immediate_codes(first)
            self._step(first, codes)
            readouts = torch.addmm(start, state.hidden, network.readout)  # (B, S R)
            for t, readout in enumerate(readouts.chunk(self._stride, 1), first):
                self._sample(t, readout, codes if t == first else self.immediate_codes(t))
        # To where the next frame looks for them; a clone, as the two places overlap where a frame is short.
        state.codes.copy_(self._history[:, 1 + self._hop :].clone())
        state.rebuilt.copy_(self._past[:, self._hop :].clone())
        state.audio.copy_(self._audio[:, -1:])

    def immediate_codes(self, t: int) -> Tensor:
        """The codes that the readout sees before sample t (B, N); puts that sample's prediction in its place.

        They are the last S codes, oldest first, and with linear prediction those of the sample before, of
        the prediction and of the excitation one lag ago.
        """
        place = self._places[t]
        if not self._order:
            return place.last
        torch.sum(self.inputs.coefficients * place.recent, 1, out=place.rebuilt)
        amplitudes = place.newest / self._signal_scale
        relative = torch.bucketize(amplitudes, self._network.edges, right=True)  # (B, 2)
        return torch.cat([place.last, relative, self._history.gather(1, place.delayed_at)], 1)

    def _step(self, first: int, codes: Tensor) -> None:
        """One recurrent step before sample `first`, whose immediate codes (B, N) these are."""
        network, state = self._network, self.state
        if self._order and self._stride > 1:
            delayed = self._history.gather(1, self._delayed_at[:, first + 1 : first + self._stride])
            codes = torch.cat([codes, delayed], 1)
        gates = self.inputs.gate_inputs + network.step_sum(codes)  # (B, G H)
        product = torch.addmm(network.recurrent_bias, state.hidden, network.recurrent)
        hidden, cell = cell_step(network.config.model.cell, gates, product, state.hidden, state.cell)
        state.hidden.copy_(hidden)
        if cell is not state.cell:
            state.cell.copy_(cell)

    def _sample(self, t: int, readout: Tensor, codes: Tensor) -> None:
        """Draw sample t from the step's part of its readout (B, R) and its immediate codes; reconstruct it."""
        network, config = self._network, self._network.config
        row = torch.relu(readout + network.readout_sum(codes))  # (B, R)
        logits = torch.addmm(network.output_bias, row, network.output)
        probability = probabilities(config.model.output, logits, self._temperature, self._tail_cut)
        place = self._places[t]
        code = drawn(probability, place.uniforms)
        if self._voiced.are_shaped:
            code = torch.where(self._is_voiced, self._shaped(probability, code), code)
        place.code.copy_(code)
        # Its place holds its prediction.
        sample = place.rebuilt.addcmul_(self.inputs.excitation_scale, network.expansion[code])
        torch.add(sample, place.before, alpha=config.signal.preemphasis, out=place.audio)

    def _shaped(self, probability: Tensor, code: Tensor) -> Tensor:
        """Drawn codes (B,) with coloured noise in place of white; see `sampling.VoicedDraws`."""
        network, past = self._network, self.state.noise
        of_groups = probability.view(len(probability), 1 << MEAN_BITS, -1).sum(2) / probability.sum(
            1, keepdim=True
        )
        amplitude = network.expansion[code]
        shaped = torch.bucketize(amplitude - past @ self._taps, network.edges, right=True)
        noise = amplitude - of_groups @ network.group_means
        past.copy_(torch.cat([past[:, 1:], noise[:, None]], 1))
        return shaped


def cell_step(
    kind: str, gates: Tensor, product: Tensor, hidden: Tensor, cell: Tensor
) -> tuple[Tensor, Tensor]:
    """One step of a recurrent cell, in PyTorch's formulas and gate order.

    Args:
        kind: `"gru"` (gates r, z, n), `"lstm"` (i, f, g, o) or `"rnn"`.
        gates: (B, G H), the inputs' part with its biases.
        product: (B, G H), W_hh h and what is added to it.
        hidden: (B, H).
        cell: (B, H), used by the LSTM.

    Returns:
        The next hidden and cell states.
    """
    if kind == "rnn":
        return torch.tanh(gates + product), cell
    if kind == "lstm":
        i, f, g, o = (gates + product).chunk(4, 1)
        cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(cell), cell
    size = hidden.shape[1]
    gates, new_gates = gates.split_with_sizes([2 * size, size], 1)
    product, new_product = product.split_with_sizes([2 * size, size], 1)
    reset, update = torch.sigmoid(gates + product).chunk(2, 1)
    new = torch.tanh(torch.addcmul(new_gates, reset, new_product))
    return torch.lerp(new, hidden, update), cell
