"""The sample loop as one kernel: weights laid out for it, and the launch; see kernels/sample_loop.py.

Whether it runs here is tried once: it must compile, and give what the loop in torch's own operations gives.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from gru_audio.config import GATES
from gru_audio.network import triton_ready
from gru_audio.synthesis.folding import can_compile
from gru_audio.synthesis.sampling import MEAN_BITS, VoicedDraws
from gru_audio.synthesis.torch_engine.sample_loop import DeviceNetwork, FrameInputs, TorchState

_SMALLEST = 16  # side of a product on tensor cores
_GATES = GATES["gru"]


class LoopWay(NamedTuple):
    """How the work is cut up.

    Attributes:
        rows: streams of a program.
        units: recurrent units that are computed together.
        chunk: columns of W_hh that are multiplied together.
        stages: of such parts that are on their way or being multiplied.
        warps: of a program.
    """

    rows: int = 16
    units: int = 64
    chunk: int = 64
    stages: int = 3
    warps: int = 8


WAYS = (LoopWay(), LoopWay(16, 128, 32, 3, 8), LoopWay(16, 64, 32, 4, 4), LoopWay(16, 32, 32, 2, 4))
"""In the order in which they are tried; the last takes the least of a card."""


class FusedLoop:
    """A network's weights, laid out for the kernel.

    Attributes:
        way: how the work is cut up.
        is_exact: the weights that are multiplied are halves, as those of a voice stored in half precision are.
    """

    def __init__(self, network: DeviceNetwork, voiced: VoicedDraws, way: LoopWay) -> None:
        """Lay them out; `can_compile` must hold for the voice."""
        self._network, self._voiced, self.way = network, voiced, way
        model, signal = network.config.model, network.config.signal
        size, stride, order = model.gru_size, model.samples_per_step, signal.lpc_order
        side = max(way.units, way.chunk)
        width, readout_width = -(-size // side) * side, _power_of_two(model.readout_size)
        self._width = width

        def padded(tensor: Tensor, *sizes: int) -> Tensor:
            """With zeros at the ends of its last axes."""
            pads = [
                p
                for have, want in zip(tensor.shape[::-1], sizes[::-1], strict=False)
                for p in (0, want - have)
            ]
            return functional.pad(tensor, pads).contiguous()

        recurrent = padded(network.recurrent.T.reshape(_GATES, size, size), width, width)
        readout = padded(network.readout.T.reshape(stride, -1, size), readout_width, width)
        top, top_bias = _first_levels(network.output.T, network.output_bias)
        multiplied = _halves(recurrent), _halves(readout), _halves(padded(top, readout_width))
        self.is_exact = not any(bool(low.any()) for _, low in multiplied)
        of_state, of_readout, of_top = multiplied
        self._weights = (
            padded(network.step_tables.view(-1, _GATES, size), width),
            *of_state,
            padded(network.recurrent_bias[2 * size :], width),
            *of_readout,
            padded(network.readout_bias.view(stride, -1), readout_width),
            padded(network.readout_tables, readout_width),
            *of_top,
            top_bias,
            padded(network.output.T, readout_width),
            network.output_bias,
            network.edges,
            network.expansion,
            network.group_means,
        )
        self._constants = {
            "SIZE": size, "WIDTH": width, "READOUT": model.readout_size, "READOUT_WIDTH": readout_width,
            "ORDER": order, "TAPS": _power_of_two(order), "STRIDE": stride, "BITS": signal.bits,
            "LONGEST_LAG": network.config.lag_max_samples, "SHAPED": voiced.are_shaped, "ROWS": way.rows,
            "UNITS": way.units, "CHUNK": way.chunk, "STAGES": way.stages,
            "EXACT": self.is_exact,
        }  # fmt: skip

    def run(self, state: TorchState, frames: FrameInputs, temperature: float, tail_cut: float) -> Tensor:
        """Go on by k frames; `state` is advanced in place.

        Args:
            state: of B streams.
            frames: with k after B; uniforms (B, k, hop) may be one row for all, expanded.
            temperature: see `distribution.probabilities`.
            tail_cut: see `distribution.probabilities`.

        Returns:
            (B, k hop) audio.
        """
        from gru_audio.synthesis.torch_engine.kernels.sample_loop import sample_loop

        config, device = self._network.config, self._network.device
        n_streams, n_frames, hop = frames.uniforms.shape
        n_lanes, n_samples = -(-n_streams // self.way.rows) * self.way.rows, n_frames * hop
        uniforms = frames.uniforms[:1] if frames.uniforms.stride(0) == 0 else frames.uniforms
        inputs = (
            *(frames.gate_inputs, frames.readout_inputs, frames.coefficients),
            *(frames.excitation_scale, frames.signal_scale, frames.lags.int(), uniforms),
        )

        def kept(past: Tensor, n_new: int = 0) -> Tensor:
            """What is remembered (B, n), and places behind it for what is new."""
            made = torch.zeros(n_lanes, past.shape[1] + n_new, device=device, dtype=past.dtype)
            made[:n_streams, : past.shape[1]] = past
            return made

        hidden = kept(state.hidden, self._width - config.model.gru_size)
        half_states = torch.stack([*_halves(hidden)] * 2).contiguous()
        readouts = torch.empty(
            n_lanes,
            config.model.samples_per_step,
            self._constants["READOUT_WIDTH"],
            dtype=torch.float32,
            device=device,
        )
        codes, rebuilt = kept(state.codes.int(), n_samples), kept(state.rebuilt, n_samples)
        noise, audio = kept(state.noise), kept(state.audio, n_samples)
        with torch.cuda.device_of(audio):  # type: ignore[no-untyped-call]
            sample_loop[(n_lanes // self.way.rows,)](
                *(part.contiguous() for part in inputs), *self._weights,
                hidden, half_states, readouts, codes, rebuilt, noise, audio,
                n_streams, n_lanes, n_frames, hop, n_samples if len(uniforms) > 1 else 0,
                float(temperature), float(temperature * self._voiced.temperature), float(tail_cut),
                config.signal.preemphasis, *self._voiced.taps, **self._constants, num_warps=self.way.warps,
            )  # fmt: skip
        state.hidden.copy_(hidden[:n_streams, : config.model.gru_size])
        state.noise.copy_(noise[:n_streams])
        for own, made in ((state.codes, codes), (state.rebuilt, rebuilt), (state.audio, audio)):
            own.copy_(made[:n_streams, n_samples:])
        return audio[:n_streams, 1:]


class LoopChoice(NamedTuple):
    """What was tried.

    Attributes:
        loop: the first that gave the right result; None where none did.
        refused: why others did not, each as a clause.
    """

    loop: FusedLoop | None
    refused: dict[str, str]


Reference = Callable[[FrameInputs], Tensor]
"""Makes of frames, from silence on and at temperature 1, the audio (B, k hop) that a loop should make."""

TRIAL_STREAMS, TRIAL_FRAMES = 4, 2
_EQUAL_SHARE = 0.5  # of a trial's samples: the fewest that come before rounding tips a draw, at a mean


def choose(
    network: DeviceNetwork,
    voiced: VoicedDraws,
    start: Callable[[int], TorchState],
    reference: Reference,
    ways: tuple[LoopWay, ...] = WAYS,
) -> LoopChoice:
    """Try ways until one is right; a kernel compiles for some seconds at its first use on a machine.

    Args:
        network: to run.
        voiced: see `VoicedDraws`.
        start: makes the state of so many silent streams.
        reference: the loop in torch's operations.
        ways: to try.
    """
    if not can_compile(network.config):
        return LoopChoice(None, {"all": "the kernel runs a gru with a tree"})
    if reason := triton_ready.why_not(network.device):
        return LoopChoice(None, {"all": reason})
    frames, refused = trial_frames(network, TRIAL_STREAMS, TRIAL_FRAMES), dict[str, str]()
    expected = reference(frames)
    for way in ways:
        try:
            loop = FusedLoop(network, voiced, way)
            found = loop.run(start(TRIAL_STREAMS), frames, 1.0, 0.0)
            share = equal_share(found, expected)
        except Exception as error:  # whatever a compiler or a driver of another version may raise
            refused[str(way)] = triton_ready.failure(error)
            continue
        if share >= _EQUAL_SHARE:
            return LoopChoice(loop, refused)
        refused[str(way)] = f"after {share:.0%} of the samples it makes others than torch's own operations"
    return LoopChoice(None, refused)


def equal_share(found: Tensor, expected: Tensor) -> float:
    """The mean share of streams' samples (B, T) that come before the first that differs by more than rounding."""
    differs = ~((found - expected).abs() <= 1e-3 * expected.abs().max())  # so that NaN differs
    first = torch.where(differs.any(1), differs.int().argmax(1), differs.shape[1])
    return float(first.float().mean()) / differs.shape[1]


def trial_frames(network: DeviceNetwork, n_streams: int, n_frames: int) -> FrameInputs:
    """Frames of no particular voice, half of them voiced; the same at every call."""
    config, device = network.config, network.device
    random = torch.Generator().manual_seed(0)

    def uniform(*sizes: int) -> Tensor:
        return torch.rand(n_streams, n_frames, *sizes, generator=random, dtype=torch.float32)

    coefficients = torch.zeros(n_streams, n_frames, config.signal.lpc_order, dtype=torch.float32)
    coefficients[..., -2:] = uniform(min(2, config.signal.lpc_order)) - 0.45
    low, high = config.lag_min_samples, config.lag_max_samples
    is_voiced = (torch.arange(n_frames) % 2 == 1) & (config.signal.lpc_order > 0)
    inputs = FrameInputs(
        gate_inputs=2 * uniform(network.step_tables.shape[1]) - 1,
        readout_inputs=2 * uniform(config.model.readout_size) - 1,
        coefficients=coefficients,
        excitation_scale=0.1 + uniform(),
        signal_scale=0.5 + uniform(),
        lags=torch.where(is_voiced, (low + uniform() * (high - low)).long(), 0),
        uniforms=uniform(config.mel.hop_samples),
    )
    return FrameInputs(**{name: part.to(device) for name, part in vars(inputs).items()})


def _first_levels(output: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Of the tree's first levels, the nodes' weights and biases on the way to each of 16 leaves.

    Returns:
        (16, 4, R) and (16, 4).
    """
    leaves = torch.arange(1 << MEAN_BITS, device=output.device)
    nodes = torch.stack([(1 << level) - 1 + (leaves >> (MEAN_BITS - level)) for level in range(MEAN_BITS)], 1)
    return output[nodes], bias[nodes].contiguous()


def _halves(tensor: Tensor) -> tuple[Tensor, Tensor]:
    """Two halves whose sum is a tensor to 22 bits."""
    high = tensor.half()
    return high, (tensor - high.float()).half()


def _power_of_two(size: int) -> int:
    return max(_SMALLEST, 1 << math.ceil(math.log2(max(1, size))))
