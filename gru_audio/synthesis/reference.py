"""The torch engine: the sample loop written plainly, for any device and a batch of streams.

It is the reference that the compiled engines are compared with, draw by draw, and the engine for cells
other than the GRU.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gru_audio.distribution import draw
from gru_audio.mel import FloatArray
from gru_audio.mulaw import expansion_table, thresholds
from gru_audio.synthesis.folding import FoldedNetwork
from gru_audio.synthesis.frontend import FrameBlock


@dataclass
class TorchState:
    """B streams between two blocks.

    Attributes:
        hidden: (B, H) recurrent state.
        cell: (B, H) the LSTM's cell state; unused by the others.
        codes: (B, L) the last excitation codes, newest last; L is the longest lag or more.
        rebuilt: (B, P) the last pre-emphasised samples, newest first; at least one.
        audio: (B,) the last sample.
    """

    hidden: Tensor
    cell: Tensor
    codes: Tensor
    rebuilt: Tensor
    audio: Tensor


class TorchEngine:
    """Generates with torch, all streams of a batch in step."""

    in_step = True

    def __init__(self, network: FoldedNetwork, device: torch.device) -> None:
        """Move a folded network to a device."""
        self._config, self._device = network.config, device
        signal = network.config.signal

        def place(array: FloatArray) -> Tensor:
            return torch.from_numpy(np.array(array)).to(self._device)

        self._step_tables = place(network.step_tables).flatten(0, 1)  # (n_step_tables Q, G H)
        self._readout_tables = place(network.readout_tables).flatten(0, 1)  # (n_readout_tables Q, R)
        self._recurrent, self._recurrent_bias = place(network.recurrent), place(network.recurrent_bias)
        self._readout, self._readout_bias = place(network.readout_hidden), place(network.readout_hidden_bias)
        self._output, self._output_bias = place(network.output), place(network.output_bias)
        self._edges, self._expansion = (
            place(thresholds(signal.n_classes)),
            place(expansion_table(signal.n_classes)),
        )
        self._step_offsets = self._offsets(len(network.step_tables))
        self._readout_offsets = self._offsets(len(network.readout_tables))

    def start(self, n_streams: int) -> TorchState:
        """The state of streams that have been silent for ever."""
        config = self._config
        hidden = torch.zeros(n_streams, config.model.gru_size, device=self._device)
        codes = torch.full(
            (n_streams, config.lag_max_samples), config.signal.n_classes // 2, device=self._device
        )
        rebuilt = torch.zeros(n_streams, max(1, config.signal.lpc_order), device=self._device)
        return TorchState(hidden, hidden, codes, rebuilt, torch.zeros(n_streams, device=self._device))

    @torch.no_grad()
    def generate(
        self,
        state: TorchState,
        blocks: Sequence[FrameBlock],
        uniforms: FloatArray,
        temperature: float = 1.0,
        tail_cut: float = 0.0,
    ) -> FloatArray:
        """Go on by one block of each stream, all with k frames.

        Args:
            state: advanced in place.
            blocks: B blocks.
            uniforms: (B, k * hop) in [0, 1), one for each sample.
            temperature: see `distribution.draw`.
            tail_cut: see `distribution.draw`.

        Returns:
            (B, k * hop) audio, full scale 1; it may go beyond.
        """
        model, hop = self._config.model, self._config.mel.hop_samples
        frames = _Frames.of(blocks, self._device)
        draws = torch.from_numpy(np.ascontiguousarray(uniforms)).to(self._device)
        n_past, n_samples = state.codes.shape[1], uniforms.shape[1]
        history = torch.nn.functional.pad(state.codes, (0, n_samples))  # (B, n_past + n_samples)
        audio = torch.empty(len(blocks), n_samples, device=self._device)
        for t in range(n_samples):
            frame, i = t // hop, t % model.samples_per_step
            codes, prediction = self._immediate(state, frames, frame, history, n_past + t)
            if i == 0:
                readouts = self._step(state, frames, frame, history, n_past + t, codes)  # (B, S, R)
            row = torch.relu(readouts[:, i] + frames.readout_inputs[:, frame] + self._sum(False, codes))
            logits = torch.addmm(self._output_bias, row, self._output.T)
            code = draw(model.output, logits, draws[:, t], temperature, tail_cut)
            history[:, n_past + t] = code
            sample = prediction + frames.excitation_scale[:, frame] * self._expansion[code]
            state.rebuilt = torch.cat([sample[:, None], state.rebuilt[:, :-1]], 1)
            state.audio = sample + self._config.signal.preemphasis * state.audio
            audio[:, t] = state.audio
        state.codes = history[:, n_samples:]
        return audio.cpu().numpy()

    def _step(
        self, state: TorchState, frames: "_Frames", frame: int, history: Tensor, at: int, codes: list[Tensor]
    ) -> Tensor:
        """One recurrent step before the sample at `at` of the history; the readout's part of it (B, S, R).

        It reads that sample's immediate codes, and the long-term codes of the step's other samples.
        """
        stride = self._config.model.samples_per_step
        later = range(1, stride) if self._config.signal.lpc_order else ()
        columns = [*codes, *(self._long_term(frames, frame, history, at + i) for i in later)]
        gates = frames.gate_inputs[:, frame] + self._sum(True, columns)
        product = torch.addmm(self._recurrent_bias, state.hidden, self._recurrent.T)
        state.hidden, state.cell = cell_step(
            self._config.model.cell, gates, product, state.hidden, state.cell
        )
        readouts = torch.addmm(self._readout_bias, state.hidden, self._readout.T)  # (B, S R)
        return readouts.view(len(readouts), stride, -1)

    def _immediate(
        self, state: TorchState, frames: "_Frames", frame: int, history: Tensor, at: int
    ) -> tuple[list[Tensor], Tensor]:
        """The codes that the readout sees before the sample at `at`, and the prediction of that sample (B,)."""
        columns = [history[:, at - 1 - i] for i in range(self._config.model.samples_per_step)]
        if not self._config.signal.lpc_order:
            return columns, torch.zeros_like(state.audio)
        prediction = self._prediction(state, frames, frame)
        columns += [
            self._relative(state.rebuilt[:, 0], frames, frame),
            self._relative(prediction, frames, frame),
        ]
        return [*columns, self._long_term(frames, frame, history, at)], prediction

    def _prediction(self, state: TorchState, frames: "_Frames", frame: int) -> Tensor:
        return (frames.coefficients[:, frame] * state.rebuilt).sum(1)

    def _relative(self, amplitude: Tensor, frames: "_Frames", frame: int) -> Tensor:
        """The code of an amplitude (B,) relative to the frame's signal scale."""
        return torch.bucketize(amplitude / frames.signal_scale[:, frame], self._edges, right=True)

    def _long_term(self, frames: "_Frames", frame: int, history: Tensor, at: int) -> Tensor:
        lags = frames.lags[:, frame]
        delayed = history.gather(1, (at - lags)[:, None])[:, 0]
        return torch.where(lags > 0, delayed, self._config.signal.n_classes // 2)

    def _sum(self, for_step: bool, columns: list[Tensor]) -> Tensor:
        """The summed table rows (B, G H) or (B, R) of codes, one column (B,) for each table."""
        tables = self._step_tables if for_step else self._readout_tables
        offsets = self._step_offsets if for_step else self._readout_offsets
        return torch.nn.functional.embedding_bag(torch.stack(columns, 1) + offsets, tables, mode="sum")

    def _offsets(self, n_tables: int) -> Tensor:
        return torch.arange(n_tables, device=self._device) * self._config.signal.n_classes


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
    (gate_r, gate_z, gate_n), (product_r, product_z, product_n) = gates.chunk(3, 1), product.chunk(3, 1)
    reset, update = torch.sigmoid(gate_r + product_r), torch.sigmoid(gate_z + product_z)
    new = torch.tanh(gate_n + reset * product_n)
    return new + update * (hidden - new), cell


@dataclass(frozen=True)
class _Frames:
    """The blocks of B streams, stacked on the device."""

    gate_inputs: Tensor  # (B, k, G H)
    readout_inputs: Tensor  # (B, k, R)
    coefficients: Tensor  # (B, k, P)
    excitation_scale: Tensor  # (B, k)
    signal_scale: Tensor  # (B, k)
    lags: Tensor  # (B, k)

    @classmethod
    def of(cls, blocks: Sequence[FrameBlock], device: torch.device) -> "_Frames":
        columns = (
            [block.gate_inputs for block in blocks],
            [block.readout_inputs for block in blocks],
            [block.filters.coefficients for block in blocks],
            [block.filters.excitation_scale for block in blocks],
            [block.filters.signal_scale for block in blocks],
            [block.lags for block in blocks],
        )
        return cls(*(torch.from_numpy(np.stack(column)).to(device) for column in columns))
