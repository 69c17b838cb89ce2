"""The front end of many streams at once on a device: what frontend.py computes of each, up to rounding.

Shapes: see model.py; n frames. Triton must be ready, for the linear prediction.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from gru_audio.arrays import FloatArray
from gru_audio.config import CONTEXT_FRAMES
from gru_audio.native.dense import eleven_bits
from gru_audio.network import triton_ready
from gru_audio.network.conditioning import Conditioner, PitchHead
from gru_audio.network.model import Network
from gru_audio.signal.gpu.lpc import LinearPrediction
from gru_audio.signal.gpu.mel import MelScale
from gru_audio.signal.mel import silent_frames
from gru_audio.synthesis.folding import FoldedNetwork
from gru_audio.synthesis.frontend import ConditioningWeights, whole_block
from gru_audio.synthesis.torch_engine.sample_loop import FrameInputs
from gru_audio.voice.voice import Voice

_MOST_DEVIATIONS = 1e4  # of native/loops/frames.c
_TRIAL_FRAMES, _TOLERANCE = 8, 0.01  # rounding, which a lag's bin may magnify


class DeviceConditioner:
    """A voice's conditioner, pitch head and linear prediction on a device; nothing changes it."""

    def __init__(self, voice: Voice, network: FoldedNetwork, device: torch.device) -> None:
        """Move them there."""
        config = voice.config
        self.config, self.device = config, device
        with torch.random.fork_rng([]):
            self._network = Network(config)
        self._network.load_state_dict({name: torch.from_numpy(t.copy()) for name, t in voice.tensors.items()})
        self._network = self._network.to(device, torch.float32).eval()  # whatever torch's default is
        for part in (self._network.pitch_head, self._network.conditioner):
            if part is not None:
                _round_products(part)

        def place(array: FloatArray) -> Tensor:
            return torch.from_numpy(array.copy()).to(device)

        self._gates, self._gate_bias = place(eleven_bits(network.gate_conditioning)), place(network.gate_bias)
        self._readout = place(eleven_bits(network.readout_conditioning))
        self._prediction = LinearPrediction(config.mel, config.signal, device)
        self._scale = MelScale(config.mel, device)

    def inputs(self, mel: Tensor) -> tuple[FrameInputs, Tensor]:
        """Of mels (B, 2 + n + 2, M): what the sample loop reads of n frames, all but uniforms, and the linear mel."""
        n_streams, n_frames = len(mel), mel.shape[1] - 2 * CONTEXT_FRAMES
        linear = self._scale.linear(mel[:, CONTEXT_FRAMES : CONTEXT_FRAMES + n_frames])  # (B, n, M)
        x = _thirteen_bits(self._network.normalise(mel).clamp(-_MOST_DEVIATIONS, _MOST_DEVIATIONS))
        head, conditioner, lags = self._network.pitch_head, self._network.conditioner, None
        if head is not None:
            lags = head.estimate(head(x)).clamp(max=self.config.lag_max_samples)
        hidden = conditioner(x, lags)  # (B, n, C)
        filters = self._prediction.filters(linear.flatten(0, 1))
        inputs = FrameInputs(
            gate_inputs=functional.linear(hidden, self._gates, self._gate_bias),
            readout_inputs=functional.linear(hidden, self._readout),
            coefficients=filters.coefficients.flip(1).view(n_streams, n_frames, -1),
            excitation_scale=filters.excitation_scale.view(n_streams, n_frames),
            signal_scale=filters.signal_scale.view(n_streams, n_frames),
            lags=mel.new_zeros(n_streams, n_frames).long() if lags is None else (lags + 0.5).long(),
            uniforms=mel.new_zeros(n_streams, n_frames, 0),
        )
        return inputs, linear


def _round_products(part: PitchHead | Conditioner) -> None:
    """Have layers multiply what native/loops/dense.h multiplies."""
    part.passed_on = _thirteen_bits
    with torch.no_grad():
        for weight in (parameter for parameter in part.parameters() if parameter.ndim > 1):
            weight.copy_(torch.from_numpy(eleven_bits(weight.cpu().numpy())))


def _thirteen_bits(hidden: Tensor) -> Tensor:
    """The nearest numbers with 13 significant bits; `dense_rounded` of native/loops/dense.h."""
    dropped = 24 - 13
    bits = hidden.contiguous().view(torch.int32) + (1 << (dropped - 1))
    return (bits & -(1 << dropped)).view(torch.float32)


def tried_conditioner(
    voice: Voice, network: FoldedNetwork, weights: ConditioningWeights, device: torch.device
) -> DeviceConditioner | str:
    """A voice's conditioner if it makes of frames what the CPU does; else why not, as a clause."""
    config, random = voice.config, np.random.default_rng(0)
    noise = random.standard_normal((_TRIAL_FRAMES, config.mel.n_mels), np.float32)
    mel = voice.tensors["mel_mean"] + voice.tensors["mel_std"] * noise
    silence, expected = silent_frames(CONTEXT_FRAMES, config.mel), whole_block(weights, mel)
    try:
        conditioner = DeviceConditioner(voice, network, device)
        with torch.inference_mode():
            inputs, _ = conditioner.inputs(
                torch.from_numpy(np.concatenate([silence, mel, silence])[None]).to(device)
            )
        found = inputs.gate_inputs[0].cpu().numpy(), inputs.coefficients[0].flip(1).cpu().numpy()
    except Exception as error:  # whatever a compiler or a driver of another version may raise
        return triton_ready.failure(error)
    pairs = zip(found, (expected.gate_inputs, expected.filters.coefficients), strict=True)
    distance = max(float(np.abs(ours - theirs).max(initial=0.0)) for ours, theirs in pairs)
    return conditioner if distance < _TOLERANCE else f"it is off by {distance:.1e}"


class DeviceFrontEnd:
    """The mels of B streams that began together, as they come; before its first frame each has silence."""

    def __init__(self, conditioner: DeviceConditioner, n_streams: int) -> None:
        """Begin them."""
        self._conditioner, self._n_without_context = conditioner, CONTEXT_FRAMES
        silence = torch.from_numpy(silent_frames(2 * CONTEXT_FRAMES, conditioner.config.mel))
        self._recent = silence.to(conditioner.device).repeat(n_streams, 1, 1)  # (B, 4, M)

    def push(self, mel: Tensor) -> tuple[FrameInputs, Tensor] | None:
        """Take frames (B, n, M); as `DeviceConditioner.inputs` of those that have their lookahead now."""
        late = min(self._n_without_context, mel.shape[1])  # of the first frames, those before have none
        self._n_without_context -= late
        mel = torch.cat([self._recent, mel], 1)
        self._recent = mel[:, -2 * CONTEXT_FRAMES :].clone()
        mel = mel[:, late:]
        return self._conditioner.inputs(mel) if mel.shape[1] > 2 * CONTEXT_FRAMES else None
