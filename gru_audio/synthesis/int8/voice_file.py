"""A voice as one file of packed arrays, which the C core reads as it lies: for products without Python.

The file holds what the int8 engine makes of a voice when it loads it. Its layout is that of native/voice/voice_file.h,
which the C interface native/gru_audio.h opens; the two lists here are in the order of that file's struct, and
in that of native/voice/voice_open.h.
"""

import ctypes
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gru_audio.config import MelConfig
from gru_audio.errors import CheckpointError, ConfigError, OutputError
from gru_audio.files import atomic_path
from gru_audio.native import library
from gru_audio.signal.mel import log_unit, silent_frames
from gru_audio.signal.mulaw import group_means
from gru_audio.synthesis.correction import default_corrections
from gru_audio.synthesis.correction_plan import low_division, plan_of_contract
from gru_audio.synthesis.folding import fold, require_compilable
from gru_audio.synthesis.frontend import LAYERS, ConditioningWeights
from gru_audio.synthesis.int8.packing import Int8Network, pack
from gru_audio.synthesis.sampling import MEAN_BITS, VoiceSampling
from gru_audio.voice.bundled import voice_path
from gru_audio.voice.tensor_file import EXPORTED_MAGIC
from gru_audio.voice.voice import Voice, load_voice

VERSION = 4

_HEADER = struct.Struct("<8sIIQ")
_PLACE = struct.Struct("<QQ")
_ALIGNMENT = 64

_NETWORK_ARRAYS = (
    *("blocks", "columns", "gate_units", "own_weights", "step_tables"),
    *("gate_factors", "gate_sums", "new_bias"),
    *("readout_blocks", "readout_columns", "readout_units", "readout_tables"),
    *("readout_factors", "readout_sums", "readout_bias"),
    *("tree_blocks", "tree_units", "tree_bias", "edges", "expansion", "first_codes"),
)
_PREDICTION_ARRAYS = ("band", "lower", "upper", "inverse", "weight", "cosines", "lag_window")
_CORRECTION_ARRAYS = (
    *("factor", "turns", "window", "first_bin", "length", "filters"),
    *("part_factor", "part_turns", "twists", "cosines", "sines"),
    *("band_length", "band_filters", "band_shares"),
    *("low_part_factor", "low_part_turns", "low_twists", "low_cosines", "low_sines"),
    *("low_window", "low_filters", "low_shares", "low_covered"),
)


def export_voice(source: str | Path, target: Path) -> int:
    """Write a voice for the C core, atomically.

    Args:
        source: a bundled voice's name, a voice file, or a run's folder.
        target: the file to write.

    Returns:
        The file's size in bytes.

    Raises:
        CheckpointError: not a voice, or its tensors do not fit its config.
        ConfigError: the int8 engine or the C interface does not cover the voice.
        OutputError: the file cannot be written, or is the voice itself.
    """
    voice = load_voice(source)
    if target.exists() and target.samefile(voice_path(source)):
        raise OutputError(f"{target}: would replace the voice; choose another output")
    try:
        packed = pack_voice(voice)
    except (CheckpointError, ConfigError) as error:
        raise type(error)(f"{source}: {error}") from error
    with atomic_path(target) as temporary:
        temporary.write_bytes(packed)
    return len(packed)


def pack_voice(voice: Voice) -> bytes:
    """The bytes of a voice for the C core, which has opened them once.

    Raises:
        CheckpointError: the voice's tensors do not fit its config.
        ConfigError: the int8 engine or the C interface does not cover the voice.
    """
    network = fold(voice)
    require_compilable("the C core", network, "train one with cell gru and output tree, the defaults")
    weights, packed = ConditioningWeights(voice, network), pack(network)
    numbers = _numbers(voice, packed, weights)
    arrays = _arrays(voice, packed, weights)
    end = _HEADER.size + len(numbers) + len(arrays) * _PLACE.size
    places, parts = [], []
    for array in arrays:
        content = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
        begin = -(-end // _ALIGNMENT) * _ALIGNMENT
        places.append(_PLACE.pack(begin, len(content)))
        parts += [bytes(begin - end), content]
        end = begin + len(content)
    rest = numbers + b"".join(places + parts)
    whole = _HEADER.pack(EXPORTED_MAGIC, VERSION, zlib.crc32(rest), end) + rest
    _require_that_it_opens(whole)
    return whole


def _require_that_it_opens(packed: bytes) -> None:
    """Have the C interface check a file.

    Raises:
        ConfigError: it refuses the file, as some of the voice's sizes or numbers are beyond what it takes.
    """
    file = library.aligned(len(packed), np.uint8)
    file[...] = np.frombuffer(packed, np.uint8)
    status = _open(file, len(packed), library.aligned(_voice_size(), np.uint8), np.zeros(1, np.int64))
    if status:
        reason = _error_text(status).decode()
        raise ConfigError(f"the C interface does not take this voice ({reason}); use it from Python")


def _numbers(voice: Voice, packed: Int8Network, weights: ConditioningWeights) -> bytes:
    """C's `struct voice_numbers`."""
    mel, signal, model, config = voice.config.mel, voice.config.signal, voice.config.model, voice.config
    correction, draws = plan_of_contract(mel), VoiceSampling.of(voice.metadata)
    whole = {
        "sample_rate_hz": mel.sample_rate_hz,
        "n_fft": mel.n_fft,
        "window_samples": mel.window_samples,
        "hop_samples": mel.hop_samples,
        "n_mels": mel.n_mels,
        "is_power": mel.spectrum == "power",
        "is_centred": mel.padding == "center",
        "order": signal.lpc_order,
        "bits": signal.bits,
        "shortest_lag": config.lag_min_samples,
        "longest_lag": config.lag_max_samples,
        "n_lag_bins": weights.conditioner.n_lag_bins,
        "gru_size": model.gru_size,
        "conditioning_size": model.conditioning_size,
        "readout_size": model.readout_size,
        "pitch_size": model.pitch_size,
        "samples_per_step": model.samples_per_step,
        "n_reset_blocks": packed.n_reset_blocks,
        "n_update_blocks": packed.n_update_blocks,
        "n_new_blocks": packed.n_new_blocks,
        "n_readout_blocks": packed.n_readout_blocks,
        "n_buckets": packed.n_buckets,
        "bucket_bits": packed.bucket_bits,
        "is_shaped": draws.voiced.are_shaped,
        "n_corrections": default_corrections(mel),
        "low_division": low_division(mel),
        "n_low_bands": correction.low_n_mels,
        "n_low_rounds": correction.low_n_rounds,
    }
    real = {
        **_scale(mel),
        "mel_preemphasis": mel.preemphasis,
        "preemphasis": signal.preemphasis,
        "excitation_range": signal.excitation_range,
        "signal_range": signal.signal_range,
        "log_lag_range": weights.conditioner.log_lag_range,
        "readout_input_limit": packed.readout_input_limit,
        "spectrum_floor": weights.prediction.floor,
        "window_energy": weights.prediction.window_energy,
        "correction_exponent": correction.exponent,
        "correction_log_limit": correction.log_limit,
        "correction_full": correction.full,
        "correction_silent": correction.silent,
        "contrast_of_bands": correction.contrast_of_bands,
        "contrast_of_frames": correction.contrast_of_frames,
        "contrast_limit": correction.contrast_limit,
        "low_limit": correction.low_limit,
        "low_momentum": correction.low_momentum,
        "temperature": draws.temperature,
        "voiced_temperature": draws.voiced.temperature,
        **{f"noise_tap_{i}": tap for i, tap in enumerate(draws.voiced.taps)},
    }
    return struct.pack(f"<{len(whole)}q{len(real)}d", *whole.values(), *real.values())


def _scale(mel: MelConfig) -> dict[str, float]:
    return {
        "log_unit": log_unit(mel),
        "log_scale": mel.scale,
        "log_offset": mel.offset,
        "log_floor": mel.floor,
        "silence": float(silent_frames(1, mel)[0, 0]),
    }


def _arrays(voice: Voice, packed: Int8Network, weights: ConditioningWeights) -> list[npt.NDArray[Any]]:
    """In the order in which native/voice/voice_open.h reads them."""
    conditioner, plan = weights.conditioner.held, plan_of_contract(voice.config.mel)
    correction = dict(plan.held)
    for part, size in (("", voice.config.mel.n_fft), ("low_", plan.low_n_fft)):
        if not size or size % 128:  # what native/signal/fft_one.h cannot transform
            names = ("part_factor", "part_turns", "twists", "cosines", "sines")
            correction |= dict.fromkeys([part + name for name in names], np.zeros(0, np.float32))
    layers = [f"{layer}_tiles" for layer in LAYERS]
    n_classes = voice.config.signal.n_classes
    return [
        *_in_order(packed.held, _NETWORK_ARRAYS),
        group_means(n_classes, 1 << MEAN_BITS),
        *_in_order(conditioner, ("mean", "deviation", *layers)),
        *_in_order(weights.prediction.held, _PREDICTION_ARRAYS),
        *_in_order(correction, _CORRECTION_ARRAYS),
    ]


def _in_order(held: Mapping[str, npt.NDArray[Any]], names: tuple[str, ...]) -> list[npt.NDArray[Any]]:
    return [held[name] for name in names]


_open = library.function(
    "gru_audio_open", [library.Bytes, ctypes.c_size_t, library.Bytes, library.Int64s], ctypes.c_int
)
_voice_size = library.function("gru_audio_voice_size", [], ctypes.c_size_t)
_error_text = library.function("gru_audio_error_text", [ctypes.c_int], ctypes.c_char_p)
