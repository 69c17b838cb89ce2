"""From mel frames to what the sample loop needs of each frame, as the frames come.

The conditioner, the pitch head and the linear prediction run in frame_kernels.py, whose results for a frame do not
depend on how the frames are chunked, so streaming gives the same bits as one call.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gru_audio.config import CONTEXT_FRAMES
from gru_audio.lpc import FrameFilters, PredictionTables
from gru_audio.mel import FloatArray, silent_frames, to_linear
from gru_audio.products import padded, tiled
from gru_audio.synthesis import frame_kernels as kernels
from gru_audio.synthesis.folding import FoldedNetwork, TensorReader
from gru_audio.voice import Voice

_FLOAT32 = 4  # bytes


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
    """The conditioner's and the pitch head's weights, laid out for frame_kernels.py; nothing changes them.

    Attributes:
        config: the voice's.
        network: the folded sample network.
        with_pitch: whether there is a pitch head.
        plan: the layers, see frame_kernels.fill_block; `places`, `weights` and `units` likewise.
        n_numbers: of a stream's rows.
        prediction: the linear prediction's tables.
        sizes: G H, R and P, the widths of what comes out.
    """

    def __init__(self, voice: Voice, network: FoldedNetwork) -> None:
        """Take them out of a voice.

        Raises:
            CheckpointError: a tensor is missing or has another shape than the config says.
        """
        config, signal = voice.config, voice.config.signal
        self.config, self.network = config, network
        self.with_pitch = signal.lpc_order > 0
        layers = _layers(voice, network, self.with_pitch)
        plain = TensorReader(voice.tensors, "")
        normalisation = [plain(name, config.mel.n_mels) for name in ("mel_mean", "mel_std")]
        self.weights = np.concatenate([*normalisation, *(tiled(*layer).ravel() for layer in layers)])
        self.plan, self.places, self.n_numbers = _plan(
            layers, config.mel.n_mels, config.model.conditioning_size
        )
        octaves = float(np.log(config.lag_max_samples / config.lag_min_samples))
        self.units = (
            float(config.lag_min_samples),
            octaves,
            float(signal.excitation_range),
            float(signal.signal_range),
        )
        self.prediction = PredictionTables.of(config.mel, signal)
        self.sizes = (len(network.gate_bias), config.model.readout_size, signal.lpc_order)


class FrontEnd:
    """One stream's conditioner: takes mel frames, gives each frame's block once its context has come."""

    def __init__(self, weights: ConditioningWeights) -> None:
        """Start a stream; before its first frame there is silence."""
        self._weights = weights
        self._rows = np.zeros(weights.n_numbers, np.float32)
        self._scratch = weights.prediction.scratch()
        self._n_without_context = 2 * CONTEXT_FRAMES  # of the next frames
        self.push(silent_frames(CONTEXT_FRAMES, weights.config.mel))

    def push(self, mel: FloatArray) -> FrameBlock:
        """Take frames (k, M); give those that have their lookahead now: as many, less the first two."""
        weights, n_frames = self._weights, len(mel)
        mel = np.ascontiguousarray(mel, np.float32)
        out = np.empty(n_frames * (sum(weights.sizes) + 2), np.float32)
        lags = np.empty(n_frames, np.int64)
        kernels.fill_block(
            mel,
            to_linear(mel, weights.config.mel),
            weights.plan,
            weights.places,
            weights.weights,
            self._rows,
            weights.units,
            weights.prediction.band,
            weights.prediction.numbers,
            self._scratch,
            out,
            lags,
        )
        first = min(self._n_without_context, n_frames)
        self._n_without_context -= first
        return _block(out, lags, weights.sizes, first)

    def finish(self) -> FrameBlock:
        """The last frames, with silence after them."""
        return self.push(silent_frames(CONTEXT_FRAMES, self._weights.config.mel))


Layer = tuple[FloatArray, FloatArray | None]
"""A matrix (out, in), whose columns are those of padded rows, and the bias (out,)."""


def _layers(voice: Voice, network: FoldedNetwork, with_pitch: bool) -> list[Layer]:
    """The layers in the order in which they run, those of the pitch head without outputs if there is none."""
    config, take = voice.config, TensorReader(voice.tensors, "conditioner.")
    n_mels, size = config.mel.n_mels, config.model.conditioning_size
    width = padded(size, _FLOAT32)
    third = take("third.weight", size, size + kernels.N_PITCH_FEATURES * with_pitch)
    features = np.zeros((size, kernels.N_PITCH_FEATURES), np.float32)
    features[:, : third.shape[1] - size] = third[:, size:]
    return [
        *(_pitch_layers(voice) if with_pitch else [(np.zeros((0, 0), np.float32), None)] * 3),
        (_end_to_end(take("first.weight", size, n_mels, 3), n_mels), take("first.bias", size)),
        (_end_to_end(take("second.weight", size, size, 3), width), take("second.bias", size)),
        (np.concatenate([_widened(third[:, :size], width), features], 1), take("third.bias", size)),
        (_widened(take("fourth.weight", size, size), width), take("fourth.bias", size)),
        (_widened(network.gate_conditioning, width), network.gate_bias),
        (_widened(network.readout_conditioning, width), None),
    ]


def _pitch_layers(voice: Voice) -> list[Layer]:
    config, take = voice.config, TensorReader(voice.tensors, "pitch_head.")
    n_mels, size, n_outputs = config.mel.n_mels, config.model.pitch_size, config.n_lag_bins + 1
    width = padded(size, _FLOAT32)
    return [
        (_end_to_end(take("first.weight", size, n_mels, 3), n_mels), take("first.bias", size)),
        (_end_to_end(take("second.weight", size, size, 3), width), take("second.bias", size)),
        (_widened(take("output.weight", n_outputs, size), width), take("output.bias", n_outputs)),
    ]


def _end_to_end(kernel: FloatArray, width: int) -> FloatArray:
    """A Conv1d kernel (out, in, 3) as a matrix (out, 3 width) for three rows of that width laid end to end."""
    return _widened(kernel.transpose(0, 2, 1), width).reshape(len(kernel), -1)


def _widened(weight: FloatArray, width: int) -> FloatArray:
    """(..., in) with zeros up to a width."""
    return np.pad(weight, [(0, 0)] * (weight.ndim - 1) + [(0, width - weight.shape[-1])])


def _plan(
    layers: list[Layer], n_mels: int, conditioning_size: int
) -> tuple[npt.NDArray[np.int64], tuple[int, int, int], int]:
    """Where everything lies: the plan and the places of frame_kernels.fill_block, and how many numbers the rows are."""
    n_rows = CONTEXT_FRAMES + kernels.FRAMES_AT_ONCE
    linear, normalised = 0, n_rows * n_mels
    free, tiles = 2 * n_rows * n_mels, 2 * n_mels
    plan, starts = np.zeros((len(layers), 9), np.int64), list[int]()  # where each layer's rows start
    for layer, (matrix, _) in enumerate(layers):
        n_outputs, n_inputs = matrix.shape
        width = padded(n_outputs, _FLOAT32)
        source = {kernels.PITCH_FIRST: None, kernels.FIRST: None, kernels.READOUT: kernels.FOURTH}.get(
            layer, layer - 1
        )
        looks_ahead = layer in (
            kernels.PITCH_FIRST,
            kernels.FIRST,
        )  # its rows are read with those before them
        stride = width + kernels.N_PITCH_FEATURES * (layer == kernels.SECOND)
        output = free + CONTEXT_FRAMES * stride * looks_ahead
        plan[layer, kernels.TILES], plan[layer, kernels.N_TILES] = tiles, width * (n_inputs + 1)
        plan[layer, kernels.N_INPUTS] = n_inputs
        plan[layer, kernels.INPUT] = normalised if source is None else starts[source]
        plan[layer, kernels.INPUT_STRIDE] = n_mels if source is None else plan[source, kernels.OUTPUT_STRIDE]
        plan[layer, kernels.OUTPUT], plan[layer, kernels.OUTPUT_STRIDE] = output, stride
        plan[layer, kernels.WIDTH], plan[layer, kernels.N_OUTPUTS] = width, n_outputs
        starts.append(free)
        free += n_rows * stride
        tiles += width * (n_inputs + 1)
    features = int(plan[kernels.SECOND, kernels.OUTPUT]) + padded(conditioning_size, _FLOAT32)
    return plan, (linear, normalised, features), free


def _block(
    out: FloatArray, lags: npt.NDArray[np.int64], sizes: tuple[int, int, int], first: int
) -> FrameBlock:
    """The frames from number `first` on of what frame_kernels.fill_block gave."""
    n_frames, parts, start = len(lags), list[FloatArray](), 0
    for size in sizes:
        parts.append(out[start : start + n_frames * size].reshape(n_frames, size)[first:])
        start += n_frames * size
    gate_inputs, readout_inputs, coefficients = parts
    excitation_scale, signal_scale = out[start + first : start + n_frames], out[start + n_frames + first :]
    filters = FrameFilters(coefficients, excitation_scale, signal_scale)
    return FrameBlock(gate_inputs, readout_inputs, filters, lags[first:])
