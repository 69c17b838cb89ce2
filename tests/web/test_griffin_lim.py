"""The page's Griffin-Lim, compiled for this machine: what it makes at rates and hops other than the bundled voice's."""

import ctypes
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from support import c_interface as c

from gru_audio.config import Config, MelConfig, ModelConfig, TrainConfig
from gru_audio.network.model import Network
from gru_audio.signal.audio import resample
from gru_audio.signal.mel import log_mel
from gru_audio.synthesis.int8.voice_file import pack_voice
from gru_audio.voice.voice import Voice

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
Floats = NDArray[np.float32]
SMALL = ModelConfig(gru_size=16, conditioning_size=16, readout_size=16, pitch_size=16)
WIDE: dict[str, Any] = {"sample_rate_hz": 24_000, "f_max_hz": 12_000.0, "n_mels": 100, "window_samples": 1024}
FULL: dict[str, Any] = {
    "sample_rate_hz": 48_000,
    "f_max_hz": 24_000.0,
    "n_mels": 128,
    "n_fft": 2048,
    "window_samples": 2048,
}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    built = tmp_path_factory.mktemp("core") / "core.so"
    flags = ["-O2", "-march=native", "-shared", "-fPIC", str(ROOT / "web/core.c"), "-o", str(built)]
    subprocess.run([sys.executable, "-m", "ziglang", "cc", *flags], check=True)
    core = ctypes.CDLL(str(built))
    core.gru_audio_voice_size.restype = core.gru_audio_griffin_lim_size.restype = ctypes.c_size_t
    return core


def griffin_lim(core: ctypes.CDLL, mel: Floats, config: MelConfig, n_rounds: int = 32) -> Floats:
    torch.manual_seed(0)
    whole = Config(mel=config, model=SMALL, train=TrainConfig(crop_samples=10 * config.hop_samples))
    tensors = {name: tensor.numpy() for name, tensor in Network(whole).state_dict().items()}
    file, size, place = c.copied(pack_voice(Voice(whole, tensors, {}))), ctypes.c_size_t, ctypes.c_void_p
    room, voice = c.memory(core.gru_audio_voice_size()), place()
    opened = core.gru_audio_open(
        place(file.ctypes.data), size(file.size), place(room.ctypes.data), ctypes.byref(voice)
    )
    assert opened == c.OK
    work = c.memory(core.gru_audio_griffin_lim_size(voice, size(len(mel))))
    given = np.ascontiguousarray(mel)
    audio = np.full(len(mel) * config.hop_samples, np.nan, np.float32)
    core.gru_audio_griffin_lim(
        *(voice, place(given.ctypes.data), size(len(mel)), size(n_rounds)),
        *(place(work.ctypes.data), place(audio.ctypes.data)),
    )
    return audio


@pytest.mark.parametrize(
    "contract",
    [
        {**WIDE, "hop_samples": 256},
        {**WIDE, "hop_samples": 341, "padding": "center"},
        {**WIDE, "hop_samples": 256, "padding": "center", "spectrum": "power", "preemphasis": 0.97},
        {**FULL, "hop_samples": 512},
    ],
)
def test_its_mel_is_near_the_given_one(
    library: ctypes.CDLL, contract: dict[str, Any], speech: Floats
) -> None:
    config = MelConfig(**contract)
    audio = resample(speech[:16_000], 16_000, config.sample_rate_hz)
    mel = log_mel(audio, config)
    made = griffin_lim(library, mel, config)[: audio.size]
    heard = mel > mel.max() - 7 * config.spectrum_power
    apart = np.abs(log_mel(made, config)[: len(mel)] - mel[: len(log_mel(made, config))])
    assert apart[heard[: len(apart)]].mean() < 0.3 * config.spectrum_power


def test_behind_the_last_window_there_is_silence(library: ctypes.CDLL) -> None:
    """Centred windows of one hop end half a hop before the last frame's."""
    config = MelConfig(**{**WIDE, "hop_samples": 1024, "padding": "center"})
    made = griffin_lim(library, np.full((5, config.n_mels), -2, np.float32), config)
    assert np.isfinite(made).all()
    assert made[: -config.hop_samples].any()
    assert not made[-config.hop_samples // 2 :].any()
