"""Mels, predictors and codes of many crops at once, against the C core's: every bit.

Triton's interpreter runs the kernels here; benchmarks/gpu.py makes the same comparisons on a GPU.
"""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gru_audio.config import MEL_PRESETS, MelConfig, SignalConfig
from gru_audio.signal.codec import run_closed_loop
from gru_audio.signal.gpu.codec import ClosedLoop
from gru_audio.signal.gpu.fft import RealFFT, can_transform
from gru_audio.signal.gpu.lpc import Filters, LinearPrediction
from gru_audio.signal.gpu.mel import DeviceMels, MelScale
from gru_audio.signal.lpc import frame_filters
from gru_audio.signal.mel import analyse, first_of_window, from_linear, to_linear

Floats = NDArray[np.float32]
CPU = torch.device("cpu")

SMALL: dict[str, Any] = {
    "sample_rate_hz": 8_000,
    "n_mels": 20,
    "f_max_hz": 4_000.0,
    "window_samples": 100,
    "hop_samples": 50,
}
CONTRACTS = {
    **{name: config for name, config in MEL_PRESETS.items() if not config.preemphasis},
    "twos": MelConfig(**SMALL, n_fft=128),
    "odd half": MelConfig(**SMALL, n_fft=150, spectrum="power"),
    "fives and threes": MelConfig(**SMALL, n_fft=120, log="db", scale=0.5, offset=1.0),
}


@pytest.mark.parametrize("name", CONTRACTS)
def test_mels_are_cs(name: str, speech: Floats) -> None:
    config = CONTRACTS[name]
    audio = speech[20_000 : 20_000 + config.n_fft + 6 * config.hop_samples].copy()
    audio[-2 * config.hop_samples :] = 0  # digital silence, and a frame that runs into it
    expected = analyse(audio, config)
    first = first_of_window(config)
    frames = np.lib.stride_tricks.sliding_window_view(audio[first:], config.window_samples)
    found = DeviceMels(config, CPU).log_mel(
        torch.from_numpy(frames[:: config.hop_samples][: len(expected)].copy())
    )
    np.testing.assert_array_equal(found.numpy(), expected)


def test_which_transforms_there_are() -> None:
    assert can_transform(1024)
    assert can_transform(1200)
    assert not can_transform(14)


def test_a_spectrum_is_numpys() -> None:
    signals = np.random.default_rng(0).standard_normal((3, 60)).astype(np.float32)
    spectra = RealFFT(60, CPU).spectra(torch.from_numpy(signals)).numpy()
    np.testing.assert_allclose(spectra[..., 0] + 1j * spectra[..., 1], np.fft.rfft(signals), atol=1e-5)


@pytest.mark.parametrize("log", ["ln", "log10", "db"])
def test_scales_are_cs(log: Any) -> None:
    config = MelConfig(log=log, scale=0.3, offset=-2.0, floor=1e-7)
    rng = np.random.default_rng(1)
    linear = np.concatenate([np.exp(rng.uniform(-30, 20, 5_000)), [0.0, 1.0, 2**0.5, 1e-7]]).astype(
        np.float32
    )
    stored = rng.uniform(-60, 60, 5_000).astype(np.float32)
    scale = MelScale(config, CPU)
    np.testing.assert_array_equal(scale.stored(torch.from_numpy(linear)).numpy(), from_linear(linear, config))
    np.testing.assert_array_equal(scale.linear(torch.from_numpy(stored)).numpy(), to_linear(stored, config))


def speech_mel(speech: Floats, n_frames: int, config: MelConfig) -> Floats:
    return analyse(speech[20_000 : 20_000 + config.n_fft + (n_frames - 1) * config.hop_samples], config)


@pytest.mark.parametrize("config", [CONTRACTS["twos"], CONTRACTS["odd half"]])
@pytest.mark.parametrize("order", [0, 1, 16])
def test_predictors_are_cs(config: MelConfig, order: int, speech: Floats) -> None:
    pytest.importorskip("triton", minversion="3.9")
    signal = SignalConfig(lpc_order=order)
    mel = speech_mel(speech, 35, config)
    expected = frame_filters(mel, config, signal)
    found = LinearPrediction(config, signal, CPU).filters(torch.from_numpy(to_linear(mel, config)))
    np.testing.assert_array_equal(found.coefficients.numpy(), expected.coefficients)
    np.testing.assert_array_equal(found.excitation_scale.numpy(), expected.excitation_scale)
    np.testing.assert_array_equal(found.signal_scale.numpy(), expected.signal_scale)


@pytest.mark.parametrize(("order", "bits"), [(16, 8), (0, 6)])
def test_codes_are_cs(order: int, bits: int, speech: Floats) -> None:
    pytest.importorskip("triton", minversion="3.9")
    config, signal_config = CONTRACTS["twos"], SignalConfig(lpc_order=order, bits=bits)
    n_crops, n_frames, hop = 3, 3, 16
    rng = np.random.default_rng(2)
    mels = [speech_mel(speech[1_000 * i :], n_frames, config) for i in range(n_crops)]
    filters = [frame_filters(mel, config, signal_config) for mel in mels]
    signal = np.stack([speech[21_000 + 1_000 * i :][: n_frames * hop] for i in range(n_crops)])
    noise = rng.integers(-3, 4, signal.shape, np.int8)
    expected = [run_closed_loop(signal[i], filters[i], signal_config, noise[i]) for i in range(n_crops)]
    together = Filters(
        *(
            torch.from_numpy(np.concatenate([getattr(crop, field) for crop in filters]))
            for field in Filters._fields
        )
    )
    found = ClosedLoop(signal_config, CPU).codes(torch.from_numpy(signal), together, torch.from_numpy(noise))
    for name, codes in found._asdict().items():
        np.testing.assert_array_equal(
            codes.numpy(), np.stack([getattr(trace, name) for trace in expected]), name
        )
