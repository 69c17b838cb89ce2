"""From mel frames to what the sample loop needs of each frame, as the frames come.

The conditioner and the pitch head in numpy, computed frame by frame: every product has the same shape
however the frames are chunked, so streaming gives the same bits as one call.
"""

from collections import deque
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gru_audio.config import CONTEXT_FRAMES
from gru_audio.lpc import FrameFilters, frame_filters
from gru_audio.mel import FloatArray, silent_frames
from gru_audio.synthesis.folding import FoldedNetwork, TensorReader
from gru_audio.voice import Voice

_REFINED_BINS = 2  # on each side of the likeliest lag


@dataclass(frozen=True)
class FrameBlock:
    """What the sample loop needs of k frames.

    Attributes:
        gate_inputs: (k, G H), conditioning and biases of the gates.
        readout_inputs: (k, R), the conditioning of the readout.
        filters: predictors and scales of the k frames.
        lags: (k,) int64, whole samples; 0 where unvoiced.
    """

    gate_inputs: FloatArray
    readout_inputs: FloatArray
    filters: FrameFilters
    lags: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.lags)

    def __getitem__(self, frames: slice) -> "FrameBlock":
        """The block of some of the frames."""
        filters = FrameFilters(
            self.filters.coefficients[frames],
            self.filters.excitation_scale[frames],
            self.filters.signal_scale[frames],
        )
        return FrameBlock(self.gate_inputs[frames], self.readout_inputs[frames], filters, self.lags[frames])


class ConditioningWeights:
    """The conditioner's and the pitch head's weights, with what both do to the same input stacked."""

    def __init__(self, voice: Voice, network: FoldedNetwork) -> None:
        """Take them out of a voice.

        Raises:
            CheckpointError: a tensor is missing or has another shape than the config says.
        """
        config = voice.config
        n_mels, size, pitch_size = config.mel.n_mels, config.model.conditioning_size, config.model.pitch_size
        self.config, self.network = config, network
        self.with_pitch = config.signal.lpc_order > 0
        plain, take = TensorReader(voice.tensors, ""), TensorReader(voice.tensors, "conditioner.")
        self.mel_mean, self.mel_std = plain("mel_mean", n_mels), plain("mel_std", n_mels)
        first, first_bias = _flat(take("first.weight", size, n_mels, 3)), take("first.bias", size)
        self.second, self.second_bias = _flat(take("second.weight", size, size, 3)), take("second.bias", size)
        self.third = take("third.weight", size, size + 2 * self.with_pitch)
        self.third_bias = take("third.bias", size)
        self.fourth, self.fourth_bias = take("fourth.weight", size, size), take("fourth.bias", size)
        if self.with_pitch:
            take = TensorReader(voice.tensors, "pitch_head.")
            first = np.concatenate([first, _flat(take("first.weight", pitch_size, n_mels, 3))])
            first_bias = np.concatenate([first_bias, take("first.bias", pitch_size)])
            self.pitch_second = _flat(take("second.weight", pitch_size, pitch_size, 3))
            self.pitch_second_bias = take("second.bias", pitch_size)
            self.pitch_output = take("output.weight", config.n_lag_bins + 1, pitch_size)
            self.pitch_output_bias = take("output.bias", config.n_lag_bins + 1)
        self.first, self.first_bias = first, first_bias

    def lag(self, outputs: FloatArray) -> float:
        """The pitch head's outputs (n_bins + 1,) to a lag in samples, 0 where unvoiced; see model.PitchHead."""
        scores, n_bins = outputs[:-1], len(outputs) - 1
        if outputs[-1] < 0:
            return 0.0
        best = int(np.argmax(scores))
        around = np.arange(max(0, best - _REFINED_BINS), min(n_bins, best + _REFINED_BINS + 1))
        weights = np.exp(scores[around] - scores[best])
        position = float(np.sum(weights * around) / np.sum(weights)) / (n_bins - 1)
        low, high = self.config.lag_min_samples, self.config.lag_max_samples
        return float(low * (high / low) ** position)

    def pitch_features(self, lag: float) -> FloatArray:
        """(2,): voiced or not, and log lag from -1 to 1; see model.Conditioner."""
        if lag <= 0:
            return np.zeros(2, np.float32)
        low, high = self.config.lag_min_samples, self.config.lag_max_samples
        position = np.log(np.clip(lag, low, high) / low) / np.log(high / low)
        return np.array([1.0, 2 * position - 1], np.float32)


class FrontEnd:
    """One stream's conditioner: takes mel frames, gives each frame's block once its context has come."""

    def __init__(self, weights: ConditioningWeights) -> None:
        """Start a stream; before its first frame there is silence."""
        self._weights = weights
        self._mels: deque[FloatArray] = deque(maxlen=CONTEXT_FRAMES + 1)
        self._normalised: deque[FloatArray] = deque(maxlen=3)
        self._firsts: deque[FloatArray] = deque(maxlen=3)
        self.push(silent_frames(CONTEXT_FRAMES, weights.config.mel))

    def push(self, mel: FloatArray) -> FrameBlock:
        """Take frames (k, M); give those that have their lookahead now: as many, less the first two."""
        ready = [frame for frame in map(self._step, mel) if frame is not None]
        return self._block(ready)

    def finish(self) -> FrameBlock:
        """The last frames, with silence after them."""
        return self.push(silent_frames(CONTEXT_FRAMES, self._weights.config.mel))

    def _step(self, frame: FloatArray) -> tuple[FloatArray, FloatArray, float] | None:
        """One frame in; the mel, conditioning (C,) and lag of the frame two before it out, if there is one."""
        weights = self._weights
        self._mels.append(frame)
        self._normalised.append((frame - weights.mel_mean) / weights.mel_std)
        if len(self._normalised) < 3:
            return None
        self._firsts.append(np.tanh(weights.first @ np.concatenate(self._normalised) + weights.first_bias))
        if len(self._firsts) < 3:
            return None
        size = weights.config.model.conditioning_size
        hidden = np.tanh(
            weights.second @ np.concatenate([first[:size] for first in self._firsts]) + weights.second_bias
        )
        lag = 0.0
        if weights.with_pitch:
            pitch_hidden = np.tanh(
                weights.pitch_second @ np.concatenate([first[size:] for first in self._firsts])
                + weights.pitch_second_bias
            )
            lag = weights.lag(weights.pitch_output @ pitch_hidden + weights.pitch_output_bias)
            hidden = np.concatenate([hidden, weights.pitch_features(lag)])
        hidden = np.tanh(weights.third @ hidden + weights.third_bias)
        return self._mels[0], np.tanh(weights.fourth @ hidden + weights.fourth_bias), lag

    def _block(self, ready: list[tuple[FloatArray, FloatArray, float]]) -> FrameBlock:
        config, network = self._weights.config, self._weights.network
        mel = np.array([mel for mel, _, _ in ready], np.float32).reshape(-1, config.mel.n_mels)
        gates = [network.gate_conditioning @ conditioning + network.gate_bias for _, conditioning, _ in ready]
        readouts = [network.readout_conditioning @ conditioning for _, conditioning, _ in ready]
        return FrameBlock(
            np.array(gates, np.float32).reshape(-1, len(network.gate_bias)),
            np.array(readouts, np.float32).reshape(-1, config.model.readout_size),
            frame_filters(mel, config.mel, config.signal),
            np.array([round(lag) for _, _, lag in ready], np.int64),
        )


def _flat(kernel: FloatArray) -> FloatArray:
    """A Conv1d kernel (out, in, 3) as a matrix (out, 3 in) for three frames laid end to end."""
    return np.ascontiguousarray(kernel.transpose(0, 2, 1).reshape(len(kernel), -1))
