"""The network: the sample-level recurrent network, and all that is trained together (docs/design.md, 2).

Shapes, here and in every file that handles the network: B batch, T samples, F frames, K = T / S
recurrent steps, M mel bands, C conditioning size, H recurrent size, R readout size, Q mu-law classes,
S samples a step.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from gru_audio.config import Config
from gru_audio.network.cell import State, run_cell
from gru_audio.network.conditioning import Conditioner, PitchHead
from gru_audio.network.cpu.linear import linear
from gru_audio.network.cpu.scan import can_scan, scan
from gru_audio.network.cpu.tree_loss import Readout, tree_loss
from gru_audio.network.distribution import negative_log_likelihood
from gru_audio.network.embedding import ramp_embedding
from gru_audio.network.gpu.choice import way_of
from gru_audio.network.gpu.gru import run_gru

_CELLS = {"gru": nn.GRU, "lstm": nn.LSTM, "rnn": nn.RNN}


class CodeInputs(NamedTuple):
    """The codes that the sample network reads; see `codec.CodecTrace`. Only the first without LPC.

    Attributes:
        excitation: (B, S - 1 + T), excitation codes e[t - 1] for t from -(S - 1) to T - 1.
        previous_signal: (B, T), codes of s[t - 1].
        prediction: (B, T), codes of the prediction of s[t].
        long_term: (B, T), codes e[t - lag], the middle code where unvoiced.
    """

    excitation: Tensor
    previous_signal: Tensor | None = None
    prediction: Tensor | None = None
    long_term: Tensor | None = None


class SampleNetwork(nn.Module):
    """The recurrent network that gives each sample's distribution from the codes before it.

    The cell steps once for S samples; the readout runs for each sample and sees every code before it.

    Attributes:
        kept_recurrent: (3H, H) bool, the recurrent weights that are not pruned; None: all. Whoever prunes sets it, so
            that no time goes into the others.
        kept_readout: (S R, H) bool, likewise of the readout's.
    """

    kept_recurrent: Tensor | None = None
    kept_readout: Tensor | None = None

    def __init__(self, config: Config) -> None:
        """Make the layers."""
        super().__init__()
        model, n_classes = config.model, config.signal.n_classes
        self.n_classes, self.samples_per_step = n_classes, model.samples_per_step
        self.hop_samples, self.with_lpc = config.mel.hop_samples, config.signal.lpc_order > 0
        n_step_tables, n_readout_tables = config.table_counts
        self.step_embedding = ramp_embedding(n_step_tables, n_classes, model.conditioning_size)
        self.cell = _CELLS[model.cell](model.conditioning_size, model.gru_size, batch_first=True)
        self.readout_hidden = nn.Linear(model.gru_size, model.samples_per_step * model.readout_size)
        self.readout_conditioning = nn.Linear(model.conditioning_size, model.readout_size, bias=False)
        self.readout_embedding = ramp_embedding(n_readout_tables, n_classes, model.readout_size)
        self.output = nn.Linear(model.readout_size, config.n_outputs)

    def forward(
        self, conditioning: Tensor, codes: CodeInputs, state: State | None = None
    ) -> tuple[Tensor, State]:
        """Teacher-forced pass.

        Args:
            conditioning: (B, F, C).
            codes: of T = F * hop samples.
            state: of the cell before the first step; zeros if None.

        Returns:
            Logits (B, T, Q - 1) of a tree or (B, T, Q) of a softmax, and the state after the last step.
        """
        hidden, state = self._run_cell(conditioning, codes, state)  # (B, K, H)
        readout = self.readout_hidden(hidden)  # (B, K, S R)
        readout = readout.unflatten(-1, (self.samples_per_step, -1)).flatten(1, 2)  # (B, T, R)
        readout = readout + self.readout_conditioning(conditioning).repeat_interleave(self.hop_samples, 1)
        readout = torch.relu(readout + self.readout_embedding(self._readout_codes(codes)))
        return self.output(readout), state

    def mean_nats(self, output: str, conditioning: Tensor, codes: CodeInputs, target: Tensor) -> Tensor:
        """Mean negative log-likelihood of the target codes (B, T), a scalar; as of `forward`'s logits."""
        if output != "tree" or not can_scan(self.cell, conditioning):
            logits, _ = self(conditioning, codes)
            return negative_log_likelihood(output, logits, target).mean()
        hidden, _ = self._scan(conditioning, codes, None)  # (K, B, H)
        layer = self.readout_hidden
        readout = Readout(
            linear(hidden, layer.weight, layer.bias, self.kept_readout),
            self.readout_conditioning(conditioning),
            self.readout_embedding.table,
            self.output.weight,
            self.output.bias,
        )
        return tree_loss(readout, self.readout_embedding.rows(self._readout_codes(codes)), target)

    def _run_cell(self, conditioning: Tensor, codes: CodeInputs, state: State | None) -> tuple[Tensor, State]:
        """Hidden states (B, K, H), and the last one."""
        if can_scan(self.cell, conditioning) and not isinstance(state, tuple):
            hidden, last = self._scan(conditioning, codes, state)
            return hidden.transpose(0, 1), last
        steps_per_frame = self.hop_samples // self.samples_per_step
        way = way_of(self.cell, conditioning)
        if way is not None and not isinstance(state, tuple):
            inputs = self.step_embedding(self._step_codes(codes).transpose(0, 1))  # (K, B, C)
            inputs = inputs + conditioning.transpose(0, 1).repeat_interleave(steps_per_frame, 0)
            hidden, last = run_gru(self.cell, inputs, None if state is None else state[0], way)
            return hidden.transpose(0, 1), last[None]
        inputs = self.step_embedding(self._step_codes(codes))  # (B, K, C)
        inputs = inputs + conditioning.repeat_interleave(steps_per_frame, 1)
        return run_cell(self.cell, inputs, state)

    def _scan(self, conditioning: Tensor, codes: CodeInputs, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """Hidden states (K, B, H), and the last one (1, B, H)."""
        rows = self.step_embedding.rows(self._step_codes(codes))
        return scan(self.cell, self.step_embedding.table, rows, conditioning, state, self.kept_recurrent)

    def _step_codes(self, codes: CodeInputs) -> Tensor:
        """(B, K, n_step_tables): e[t-1] to e[t-S], s[t-1], the prediction of s[t], the S long-term codes."""
        stride = self.samples_per_step
        n_samples = codes.excitation.shape[1] - (stride - 1)
        columns = [codes.excitation[:, stride - 1 - i :][:, :n_samples:stride] for i in range(stride)]
        if codes.previous_signal is not None and codes.prediction is not None and codes.long_term is not None:
            columns += [codes.previous_signal[:, ::stride], codes.prediction[:, ::stride]]
            columns += [codes.long_term[:, i::stride] for i in range(stride)]
        return torch.stack(columns, -1)

    def _readout_codes(self, codes: CodeInputs) -> Tensor:
        """(B, T, n_readout_tables): e[t-1] to e[t-S], s[t-1], the prediction of s[t], the long-term code."""
        stride = self.samples_per_step
        n_samples = codes.excitation.shape[1] - (stride - 1)
        columns = [codes.excitation[:, stride - 1 - i :][:, :n_samples] for i in range(stride)]
        if codes.previous_signal is not None and codes.prediction is not None and codes.long_term is not None:
            columns += [codes.previous_signal, codes.prediction, codes.long_term]
        return torch.stack(columns, -1)


class Network(nn.Module):
    """Everything that is trained: normalisation, pitch head, conditioner and sample network."""

    mel_mean: Tensor
    mel_std: Tensor

    def __init__(self, config: Config) -> None:
        """Make an untrained network; set the normalisation with `set_normalisation`."""
        super().__init__()
        self.config = config
        with_lpc = config.signal.lpc_order > 0
        self.register_buffer("mel_mean", torch.zeros(config.mel.n_mels))
        self.register_buffer("mel_std", torch.ones(config.mel.n_mels))
        self.pitch_head = PitchHead(config) if with_lpc else None
        self.conditioner = Conditioner(config, with_lpc)
        self.sample_network = SampleNetwork(config)

    def set_normalisation(self, mean: Tensor, std: Tensor) -> None:
        """Set the mel's mean and standard deviation (M,) over the training set."""
        self.mel_mean.copy_(mean)
        self.mel_std.copy_(std)

    def normalise(self, mel: Tensor) -> Tensor:
        """(..., M) mel to zero mean and unit variance."""
        return (mel - self.mel_mean) / self.mel_std

    @property
    def n_parameters(self) -> int:
        """Trained numbers, buffers not counted."""
        return sum(parameter.numel() for parameter in self.parameters())


def delayed_codes(history: Tensor, lags: Tensor, n_samples: int, middle_code: int) -> Tensor:
    """The long-term codes e[t - lag].

    Args:
        history: (B, W + T), excitation codes with a run-in of W samples, W at least the longest lag.
        lags: (B, F), in samples, 0 where unvoiced.
        n_samples: T, a multiple of F.
        middle_code: what an unvoiced sample gets.

    Returns:
        (B, T), of the history's type.
    """
    per_sample = lags.round().long().repeat_interleave(n_samples // lags.shape[1], 1)  # (B, T)
    now = torch.arange(history.shape[1] - n_samples, history.shape[1], device=history.device)
    return torch.where(per_sample > 0, history.gather(1, now - per_sample), middle_code)
