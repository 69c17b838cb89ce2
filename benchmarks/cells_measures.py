"""What a recurrent cell does with its past: its gradients, its memory and its gates; for compare_cells.py.

All are taken under teacher forcing, on one batch of held-out crops, with the pitch labels. Shapes: see
gru_audio/network/model.py.
"""

import copy
import math

import torch
from torch import Tensor, nn

from gru_audio.network.cell import State
from gru_audio.network.distribution import log_probabilities, negative_log_likelihood
from gru_audio.network.model import CodeInputs, Network
from gru_audio.training.batches.batch import Batch
from gru_audio.training.objective import bits, code_inputs, compute_losses

TIME_CONSTANTS_SAMPLES = tuple(2.0 ** (k / 2) for k in range(2 * 15 + 1))  # edges of the histogram's bins
_PIECE_SAMPLES = 40  # all codes' probabilities at once would take gigabytes
_SATURATED = 100.0  # a bias at which float32's sigmoid is 1, or next to 0, and its derivative with it 0


class SteppedCell(nn.Module):
    """A cell taken step by step, so that each state in between can be looked at."""

    def __init__(self, cell: nn.Module) -> None:
        """Wrap a one-layer batch-first nn.GRU, nn.LSTM or nn.RNN."""
        super().__init__()
        self.cell = cell
        self.inputs = torch.empty(0)  # (B, K, C), of the last call
        self.states: list[tuple[Tensor, ...]] = []  # after each of its steps: (h,), or an LSTM's (h, c)

    def forward(self, inputs: Tensor, state: State | None) -> tuple[Tensor, State]:
        """What the cell gives: (B, K, C) -> (B, K, H) and the last state."""
        self.inputs, self.states = inputs, []
        for k in range(inputs.shape[1]):
            _, state = self.cell(inputs[:, k : k + 1], state)
            self.states.append(state if isinstance(state, tuple) else (state,))
            for part in self.states[-1] if torch.is_grad_enabled() else ():
                part.retain_grad()
        assert state is not None
        # Of the states themselves, not of the cell's outputs: so that gradients pass through the states.
        return torch.cat([parts[0] for parts in self.states]).transpose(0, 1), state


def hold_gate(cell: nn.Module, gate: str) -> None:
    """Saturate a GRU's gate for good: "reset" at 1 (the whole past is seen), "update" at 0 (nothing is kept).

    Where a sigmoid is flat its weights get no gradient, so that training leaves the gate as it is.
    """
    size = cell.get_parameter("weight_hh_l0").shape[1]
    first, value = {"reset": (0, _SATURATED), "update": (size, -_SATURATED)}[gate]
    with torch.no_grad():
        cell.get_parameter("bias_ih_l0")[first : first + size] = value


@torch.no_grad()
def bits_a_sample(network: Network, batch: Batch[Tensor]) -> float:
    """Mean negative log-likelihood of the batch's codes, in bits."""
    return bits(float(compute_losses(network, batch, own_pitch=False).nats))


def gradient_norms(network: Network, batch: Batch[Tensor]) -> list[float]:
    """How much of the last step's loss comes through to the states before it.

    Returns:
        (K,), the norm of d loss / d state k steps before the last, k = 0, 1, …: the median over the crops,
        divided by the one at k = 0. The loss is of the last step's S samples, the state all that the cell
        carries: h, or an LSTM's h and c.
    """
    network, stepped = _stepped(network)
    output, logits = network.config.model.output, _logits(network, batch)
    n_last = network.config.model.samples_per_step
    nats = negative_log_likelihood(output, logits[:, -n_last:], batch.target[:, -n_last:])
    nats.sum().backward()  # type: ignore[no-untyped-call]
    norms = []
    for parts in reversed(stepped.states):
        # The last c of an LSTM is used by no later step and has no gradient.
        gradients = [part.grad[0] for part in parts if part.grad is not None]
        norms.append(float(torch.cat(gradients, -1).norm(dim=-1).median()))
    return [norm / norms[0] for norm in norms]


@torch.no_grad()
def memory_divergence(network: Network, batch: Batch[Tensor]) -> list[float]:
    """How long the network goes on differing once its memory is another's.

    In the middle of the crops, each crop's state is replaced by the next one's; what the network reads stays.

    Returns:
        (T / 2,), the mean over the crops of KL(with its own state || with the other's), in bits, of the
        distribution of the sample k samples after the exchange, k = 0, 1, ….
    """
    conditioning, codes = inputs_of(network, batch)
    n_first, n_samples = conditioning.shape[1] // 2, batch.target.shape[1]
    samples_per_step = network.config.model.samples_per_step
    middle = n_first * network.config.mel.hop_samples
    first = cut(codes, 0, middle, samples_per_step)
    rest = cut(codes, middle, n_samples, samples_per_step)
    _, state = network.sample_network(conditioning[:, :n_first], first)
    parts = state if isinstance(state, tuple) else (state,)
    moved = tuple(part.roll(1, dims=1) for part in parts)
    own, other = (
        network.sample_network(conditioning[:, n_first:], rest, start)[0]
        for start in (state, moved if isinstance(state, tuple) else moved[0])
    )
    pieces = zip(own.split(_PIECE_SAMPLES, 1), other.split(_PIECE_SAMPLES, 1), strict=True)
    divergence = torch.cat([_divergence(network.config.model.output, *pair) for pair in pieces], 1)
    return [bits(nats) for nats in divergence.mean(0).tolist()]


@torch.no_grad()
def time_constants(network: Network, batch: Batch[Tensor]) -> dict[str, list[float]]:
    """How slowly each unit forgets, by the gate that keeps its state: a GRU's update, an LSTM's forget gate.

    A gate at z multiplies what is kept by z a step: alone, it forgets with a time constant of -S / ln z samples.

    Returns:
        For "voiced" and "unvoiced" frames, the share of all (unit, step) whose time constant lies between two
        neighbours of `TIME_CONSTANTS_SAMPLES`; what lies outside is counted in the first or the last bin.
        Empty for a cell with no such gate.
    """
    if network.config.model.cell == "rnn":
        return {}
    network, stepped = _stepped(network)
    _logits(network, batch)
    hidden = torch.cat([parts[0] for parts in stepped.states]).transpose(0, 1)  # (B, K, H)
    before = torch.cat([torch.zeros_like(hidden[:, :1]), hidden[:, :-1]], 1)
    # Rows H to 2H are the gate that keeps, in the GRU's order r, z, n and in the LSTM's i, f, g, o.
    kept = slice(hidden.shape[2], 2 * hidden.shape[2])
    weight_ih, weight_hh, bias_ih, bias_hh = (parameter[kept] for parameter in stepped.cell.parameters())
    gate = torch.sigmoid(stepped.inputs @ weight_ih.T + before @ weight_hh.T + bias_ih + bias_hh)
    logs = torch.log(gate).clamp(max=-1e-9)  # a gate at 1 forgets nothing: the last bin
    constants = -network.config.model.samples_per_step / logs  # (B, K, H), in samples
    edges = torch.tensor(TIME_CONSTANTS_SAMPLES)
    bins = torch.bucketize(constants, edges[1:-1])  # (B, K, H), 0 to the number of bins - 1
    voiced = (batch.lags > 0).repeat_interleave(hidden.shape[1] // batch.lags.shape[1], 1)  # (B, K)
    shares = {}
    for name, chosen in {"voiced": bins[voiced], "unvoiced": bins[~voiced]}.items():
        counts = torch.bincount(chosen.flatten(), minlength=len(edges) - 1)
        shares[name] = (counts / max(1, chosen.numel())).tolist()
    return shares


def horizon(curve: list[float], bound: float) -> int | None:
    """The first k from which a curve stays below a bound; None where it does not within the curve."""
    above = [k for k, value in enumerate(curve) if not value < bound]
    if above and above[-1] == len(curve) - 1:
        return None
    return above[-1] + 1 if above else 0


def median_constant(shares: list[float]) -> float:
    """The median of a histogram over `TIME_CONSTANTS_SAMPLES`, its bins' values taken as even in log."""
    reached = 0.0
    for k, share in enumerate(shares):
        if reached + share >= 0.5:
            octaves = [math.log2(edge) for edge in TIME_CONSTANTS_SAMPLES[k : k + 2]]
            return float(2 ** (octaves[0] + (0.5 - reached) / share * (octaves[1] - octaves[0])))
        reached += share
    return math.nan


def _divergence(output: str, logits: Tensor, other_logits: Tensor) -> Tensor:
    """KL divergence (B, T) in nats of two distributions' logits (B, T, Q - 1) or (B, T, Q)."""
    own, other = log_probabilities(output, logits), log_probabilities(output, other_logits)
    return (own.exp() * (own - other)).sum(-1)


def _stepped(network: Network) -> tuple[Network, SteppedCell]:
    """A copy of the network whose cell keeps its states, with gradients, for the parameters too."""
    network = copy.deepcopy(network).requires_grad_()
    stepped = SteppedCell(network.sample_network.cell)
    network.sample_network.cell = stepped
    return network, stepped


def inputs_of(network: Network, batch: Batch[Tensor]) -> tuple[Tensor, CodeInputs]:
    """Conditioning (B, F, C) and codes, as in training before the pitch head takes over."""
    lags = None if network.pitch_head is None else batch.lags
    return network.conditioner(network.normalise(batch.mel), lags), code_inputs(network, batch, lags)


def _logits(network: Network, batch: Batch[Tensor]) -> Tensor:
    """(B, T, Q - 1) or (B, T, Q)."""
    logits, _ = network.sample_network(*inputs_of(network, batch))
    return logits  # type: ignore[no-any-return]


def cut(codes: CodeInputs, start: int, stop: int, samples_per_step: int) -> CodeInputs:
    """The codes that samples `start` to `stop` read."""
    columns = (None if column is None else column[:, start:stop] for column in codes[1:])
    return CodeInputs(codes.excitation[:, start : stop + samples_per_step - 1], *columns)
