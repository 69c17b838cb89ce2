"""From mel frames to what the sample loop needs of each frame, as the frames come.

The conditioner, the pitch head and the linear prediction run in native/loops/frames.c, whose results for a frame do not
depend on how the frames are chunked, so streaming gives the same bits as one call.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gru_audio.arrays import FloatArray
from gru_audio.config import CONTEXT_FRAMES
from gru_audio.native import library
from gru_audio.native.dense import eleven_bits, padded, tiled
from gru_audio.native.library import Double, Doubles, Float, Floats, Int, Int64s
from gru_audio.signal.lpc import FrameFilters, PredictionTables, prediction_scratch, prediction_tables
from gru_audio.signal.mel import silent_frames, to_linear
from gru_audio.synthesis.folding import FoldedNetwork, TensorReader
from gru_audio.voice.voice import Voice

_PITCH_FEATURES = 2
LAYERS = (
    *("pitch_first", "pitch_second", "pitch_output"),
    *("first", "second", "third", "fourth", "gates", "readout"),
)


@dataclass(frozen=True)
class FrameBlock:
    """What the sample loop needs of k frames.

    Attributes:
        gate_inputs: (k, G H), conditioning and biases of the gates.
        readout_inputs: (k, R), the conditioning of the readout.
        filters: predictors and scales of the k frames.
        lags: (k,) int64, whole samples; 0 where unvoiced.
        linear: (k, M), the frames' mel without its logarithm.
    """

    gate_inputs: FloatArray
    readout_inputs: FloatArray
    filters: FrameFilters
    lags: npt.NDArray[np.int64]
    linear: FloatArray

    def __len__(self) -> int:
        return len(self.lags)

    def __getitem__(self, frames: slice) -> "FrameBlock":
        """The block of some of the frames."""
        filters = FrameFilters(
            self.filters.coefficients[frames],
            self.filters.excitation_scale[frames],
            self.filters.signal_scale[frames],
        )
        return FrameBlock(
            self.gate_inputs[frames],
            self.readout_inputs[frames],
            filters,
            self.lags[frames],
            self.linear[frames],
        )


class _Conditioner(library.Struct):
    """See frames.c, `gru_conditioner`."""

    _fields_ = (
        ("n_mels", Int),
        ("n_lag_bins", Int),
        ("n_gates", Int),
        ("readout_size", Int),
        ("excitation_range", Double),
        ("signal_range", Double),
        ("first_lag", Float),
        ("log_lag_range", Float),
        ("mean", Floats),
        ("deviation", Floats),
        *(
            (f"{layer}_{field}", kind)
            for layer in LAYERS
            for field, kind in (("tiles", Floats), ("n_tiles", Int), ("n_inputs", Int))
        ),
    )


class _Frames(library.Struct):
    """See frames.c, `gru_frames`."""

    _fields_ = (
        ("gate_inputs", Floats),
        ("readout_inputs", Floats),
        ("coefficients", Floats),
        ("excitation_scale", Floats),
        ("signal_scale", Floats),
        ("lags", Int64s),
    )


_fill_frames = library.function(
    "gru_fill_frames",
    [_Conditioner, PredictionTables, Floats, Floats, Int, Floats, Doubles, _Frames],
)
_room_size = library.function("gru_frame_room_size", [_Conditioner], Int)


class ConditioningWeights:
    """The conditioner's and the pitch head's weights, laid out for native/loops/frames.c; nothing changes them.

    Attributes:
        config: the voice's.
        conditioner: the layers.
        prediction: the linear prediction's tables.
        sizes: G H, R and P, the widths of what comes out.
    """

    def __init__(self, voice: Voice, network: FoldedNetwork) -> None:
        """Take them out of a voice.

        Raises:
            CheckpointError: a tensor is missing or has another shape than the config says.
        """
        config, signal = voice.config, voice.config.signal
        self.config = config
        plain = TensorReader(voice.tensors, "")
        self.conditioner = _Conditioner(
            n_mels=config.mel.n_mels,
            n_lag_bins=config.n_lag_bins if signal.lpc_order else 0,
            n_gates=len(network.gate_bias),
            readout_size=config.model.readout_size,
            excitation_range=signal.excitation_range,
            signal_range=signal.signal_range,
            first_lag=config.lag_min_samples,
            log_lag_range=np.log(config.lag_max_samples / config.lag_min_samples),
            mean=plain("mel_mean", config.mel.n_mels),
            deviation=plain("mel_std", config.mel.n_mels),
            **_fields_of(_layers(voice, network)),
        )
        self.prediction = prediction_tables(config.mel, signal)
        self.sizes = (len(network.gate_bias), config.model.readout_size, signal.lpc_order)


class FrontEnd:
    """One stream's conditioner: takes mel frames, returns each frame's block once its context has come."""

    def __init__(self, weights: ConditioningWeights) -> None:
        """Start a stream; before its first frame there is silence."""
        self._weights = weights
        self._room = np.zeros(_room_size(weights.conditioner), np.float32)
        self._scratch = prediction_scratch(weights.prediction)
        self._n_without_context = 2 * CONTEXT_FRAMES  # of the next frames
        self._waiting = np.zeros((CONTEXT_FRAMES, weights.config.mel.n_mels), np.float32)
        self.push(silent_frames(CONTEXT_FRAMES, weights.config.mel))

    def push(self, mel: FloatArray, linear: FloatArray | None = None) -> FrameBlock:
        """Take frames (k, M), and their `to_linear` where it is known; return those that have their lookahead now.

        These are as many, less the first two.
        """
        weights, n_frames = self._weights, len(mel)
        mel = np.ascontiguousarray(mel, np.float32)
        if linear is None:
            linear = to_linear(mel, weights.config.mel)
        gate_inputs, readout_inputs, coefficients = (
            np.empty((n_frames, size), np.float32) for size in weights.sizes
        )
        filters = FrameFilters(coefficients, np.empty(n_frames, np.float32), np.empty(n_frames, np.float32))
        lags = np.empty(n_frames, np.int64)
        _fill_frames(
            weights.conditioner,
            weights.prediction,
            mel,
            linear,
            n_frames,
            self._room,
            self._scratch,
            _Frames(
                gate_inputs=gate_inputs,
                readout_inputs=readout_inputs,
                coefficients=filters.coefficients,
                excitation_scale=filters.excitation_scale,
                signal_scale=filters.signal_scale,
                lags=lags,
            ),
        )
        first = min(self._n_without_context, n_frames)
        self._n_without_context -= first
        linear = np.concatenate([self._waiting, linear])  # of the frames whose context comes with these
        self._waiting = linear[n_frames:]
        return FrameBlock(gate_inputs, readout_inputs, filters, lags, linear[:n_frames])[first:]

    def finish(self) -> FrameBlock:
        """The last frames, with silence after them."""
        return self.push(silent_frames(CONTEXT_FRAMES, self._weights.config.mel))


def whole_block(weights: ConditioningWeights, mel: FloatArray) -> FrameBlock:
    """The block of a whole mel (F, M), with silence after it."""
    return FrontEnd(weights).push(np.concatenate([mel, silent_frames(CONTEXT_FRAMES, weights.config.mel)]))


Layer = tuple[FloatArray, FloatArray | None]
"""A matrix (out, in), whose columns are those of padded rows, and the bias (out,)."""


def _layers(voice: Voice, network: FoldedNetwork) -> list[Layer]:
    """The layers in the order of `LAYERS`, those of the pitch head without outputs if there is none."""
    config, take = voice.config, TensorReader(voice.tensors, "conditioner.")
    n_mels, size, with_pitch = config.mel.n_mels, config.model.conditioning_size, config.signal.lpc_order > 0
    width = padded(size)
    third = take("third.weight", size, size + _PITCH_FEATURES * with_pitch)
    features = np.zeros((size, _PITCH_FEATURES), np.float32)
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
    width = padded(size)
    return [
        (_end_to_end(take("first.weight", size, n_mels, 3), n_mels), take("first.bias", size)),
        (_end_to_end(take("second.weight", size, size, 3), width), take("second.bias", size)),
        (_widened(take("output.weight", n_outputs, size), width), take("output.bias", n_outputs)),
    ]


def _fields_of(layers: list[Layer]) -> dict[str, FloatArray | int]:
    """The layers as fields of `_Conditioner`."""
    fields: dict[str, FloatArray | int] = {}
    for name, (matrix, bias) in zip(LAYERS, layers, strict=True):
        tiles = tiled(eleven_bits(matrix), bias)
        fields |= {f"{name}_tiles": tiles, f"{name}_n_tiles": len(tiles), f"{name}_n_inputs": matrix.shape[1]}
    return fields


def _end_to_end(kernel: FloatArray, width: int) -> FloatArray:
    """A Conv1d kernel (out, in, 3) as a matrix (out, 3 width) for three rows of that width laid end to end."""
    return _widened(kernel.transpose(0, 2, 1), width).reshape(len(kernel), -1)


def _widened(weight: FloatArray, width: int) -> FloatArray:
    """(..., in) with zeros up to a width."""
    return np.pad(weight, [(0, 0)] * (weight.ndim - 1) + [(0, width - weight.shape[-1])])
