"""24 and 48 kHz from audio to evaluation, with the presets' mels and a network that learns in seconds."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from gru_audio.config import load_config
from gru_audio.data.prepare import prepare
from gru_audio.evaluation.evaluate import evaluate
from gru_audio.quality.material import find_originals
from gru_audio.synthesis.vocoder import Vocoder
from gru_audio.training.run import train
from gru_audio.voice.voice import load_voice

SMALL = (
    *("model.gru_size=16", "model.conditioning_size=16", "model.readout_size=16", "model.pitch_size=16"),
    *("model.recurrent_density=[1, 1, 1]", "train.stages=[]", "train.steps=4", "train.batch_size=2"),
    *("train.crop_samples=1024", "train.warm_up_steps=1", "train.pitch_handover_step=2", "train.workers=0"),
    *("train.valid_every=2", "train.valid_crops=2", "train.checkpoint_every=2", "train.free_running_every=0"),
    "prep.valid_fraction=0.3",
)


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["voice-24k", "studio-48k"])
def test_a_rate_from_audio_to_evaluation(preset: str, tmp_path: Path) -> None:
    config = load_config(preset, SMALL)
    rate_hz, hop = config.mel.sample_rate_hz, config.mel.hop_samples
    t = np.arange(3 * rate_hz // 2) / rate_hz
    for pitch_hz in (110, 140, 170, 220):
        buzz = sum(np.sin(2 * np.pi * k * (pitch_hz * t + 30 * t**2)) / k for k in range(1, 40))
        path = tmp_path / "audio" / f"{pitch_hz}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, 0.1 * buzz * (1 + np.sin(9 * t)) / 2, rate_hz)

    prepare([tmp_path / "audio"], tmp_path / "data", config, jobs=1)
    train(tmp_path / "data", tmp_path / "run", config, device="cpu", threads=1)
    voice = load_voice(tmp_path / "run")
    assert voice.config.mel == config.mel

    vocoder = Vocoder(voice, "int8")
    audio, _ = soundfile.read(tmp_path / "audio/140.wav", dtype="float32")
    mel = vocoder.mel(audio[: rate_hz // 2], rate_hz)
    made = vocoder.synthesize(mel, seed=1)
    assert vocoder.sample_rate == rate_hz
    assert made.size == len(mel) * hop
    assert np.isfinite(made).all()
    assert 0.3 < np.sqrt(np.mean(made**2) / np.mean(audio[: rate_hz // 2] ** 2)) < 3
    streamed = list(vocoder.stream((mel[i : i + 3] for i in range(0, len(mel), 3)), seed=1))
    np.testing.assert_array_equal(np.concatenate(streamed), made)

    originals, _ = find_originals(tmp_path / "audio", 1)
    evaluation = evaluate(voice, originals, engine="int8", jobs=1)
    figures = next(clip.figures for clip in evaluation.clips if clip.system == "voice")
    assert np.isfinite(figures["log_mel_db"])
