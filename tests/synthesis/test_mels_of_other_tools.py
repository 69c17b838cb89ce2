"""Mels that others made: no finite one makes a sample that is not finite, and the check serves every way in."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from support.small import small_config

from gru_audio.config import MEL_PRESETS, MelConfig
from gru_audio.errors import AudioError, ConfigError, MelError
from gru_audio.network.model import Network
from gru_audio.signal.audio import resample
from gru_audio.signal.mel import log_mel
from gru_audio.signal.mel_adapt.conversion import convert_mel
from gru_audio.synthesis.jobs.batch import synthesize_files
from gru_audio.synthesis.jobs.pipe import synthesize_pieces
from gru_audio.synthesis.jobs.plan import Job, Result
from gru_audio.synthesis.sampling import PLAIN_SAMPLING
from gru_audio.synthesis.stream import require_finite
from gru_audio.synthesis.vocoder import Vocoder, load
from gru_audio.voice.voice import Voice

Floats = NDArray[np.float32]
CONTRACTS = {
    "ln": {},
    "power": {"spectrum": "power", "log": "db", "floor": 1e-10},
    "mapped": {"log": "db", "scale": 0.01, "offset": 1.0, "preemphasis": 0.97},
}


def vocoder_of(engine: str, **mel: object) -> Vocoder:
    """A voice that has learned nothing but what mels are like."""
    config = small_config()
    contract = MelConfig.model_validate({**config.mel.model_dump(), **mel})
    config = config.model_copy(update={"mel": contract})
    torch.manual_seed(0)
    tensors = {name: tensor.numpy() for name, tensor in Network(config).state_dict().items()}
    return Vocoder(
        Voice(config, {**tensors, "mel_mean": tensors["mel_mean"] - 5, "mel_std": tensors["mel_std"] * 2}),
        engine,
    )


@pytest.fixture(scope="module")
def bundled() -> Vocoder:
    return load(engine="int8", corrections=0)


@pytest.mark.parametrize("engine", ["int8", "float32", "torch"])
@pytest.mark.parametrize("contract", CONTRACTS)
def test_extreme_values_make_finite_audio(engine: str, contract: str) -> None:
    vocoder, rng = vocoder_of(engine, **CONTRACTS[contract]), np.random.default_rng(0)
    largest = float(np.finfo(np.float32).max)
    plain = np.asarray(rng.normal(-5, 2, (6, 20)), np.float32)
    cases = [np.where(rng.random((6, 20)) < 0.5, largest, -largest), np.full((6, 20), largest)]
    for value in (60.0, 200.0, 1e10, largest, -largest):
        one = plain.copy()
        one[3, 7] = value
        cases.append(one)
    for mel in cases:
        assert np.isfinite(vocoder.synthesize(mel, check=False)).all()
    assert all(np.isfinite(audio).all() for audio in vocoder.synthesize_batch(cases[:3], check=False))


@settings(max_examples=30)
@given(mel=arrays(np.float32, (4, 20), elements=st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_any_finite_mel_makes_finite_audio(mel: Floats) -> None:
    assert np.isfinite(vocoder_of("int8").synthesize(mel, check=False)).all()


@pytest.mark.parametrize(("corrections", "n_frames"), [(0, 3), (3, 7)])
def test_the_first_audio_comes_after_as_many_frames_as_is_said(corrections: int, n_frames: int) -> None:
    """37.5 and 87.5 ms of mel with the default contract: the frame itself, and its lookahead."""
    vocoder = load(engine="int8", corrections=corrections)
    vocoder.warm_up()
    assert vocoder.lookahead_frames + 1 == n_frames
    stream = vocoder.start()
    sizes = [stream.push(np.full((1, 80), -6, np.float32)).size for _ in range(n_frames + 2)]
    assert sizes == [0] * (n_frames - 1) + [200] * 3


def test_audio_that_is_not_finite_names_its_frame() -> None:
    audio = np.zeros(400, np.float32)
    require_finite(audio, 0, 100)
    audio[250] = np.nan
    with pytest.raises(AudioError, match="NaN or infinite samples in frame 12"):
        require_finite(audio, 10, 100)


def test_what_is_no_mel_of_the_voice_is_refused_everywhere(bundled: Vocoder, speech: Floats) -> None:
    mel = bundled.mel(speech[:32_000], 16_000)
    wrong = mel / np.float32(np.log(10))
    for attempt in (
        lambda: bundled.check(wrong),
        lambda: bundled.synthesize(wrong),
        lambda: bundled.synthesize_batch([mel[:3], wrong]),
        lambda: list(bundled.stream(wrong[i : i + 4] for i in range(0, len(wrong), 4))),
        lambda: list(synthesize_pieces(bundled, [wrong.tobytes()], "mel", PLAIN_SAMPLING)),
    ):
        with pytest.raises(
            MelError, match="looks like log10, not like the voice's contract; add --mel log=log10"
        ):
            attempt()
    assert bundled.synthesize(wrong[:70], check=False).size == 70 * 200
    bundled.check(mel)


def results_of(vocoder: Vocoder, source: Path, **options: object) -> Result:
    job = Job(source, source.with_suffix(".wav"))
    (result,) = synthesize_files(vocoder, [job], **options)  # type: ignore[arg-type]
    return result


def test_files_tell_what_was_assumed(bundled: Vocoder, speech: Floats, tmp_path: Path) -> None:
    mel = bundled.mel(speech[:16_000], 16_000)
    np.save(tmp_path / "turned.npy", mel.T)
    result = results_of(bundled, tmp_path / "turned.npy")
    assert result.error is None
    assert result.notes == (
        "shape (80, 80) is taken for frames x bands, as it cannot be told from bands x frames",
        "states no mel contract; taken for the voice's own, 16000 Hz, hop 200, 80 bands, ln; --mel names another",
    )
    np.save(tmp_path / "long.npy", bundled.mel(speech[:20_000], 16_000).T)
    turned, _ = results_of(bundled, tmp_path / "long.npy").notes
    assert turned == "shape (80, 100) is taken for bands x frames, and turned"
    assert results_of(bundled, tmp_path / "long.npy", contract=bundled.mel_config).notes[1:] == ()


def test_a_file_that_is_refused_stops_no_other(bundled: Vocoder, speech: Floats, tmp_path: Path) -> None:
    mel = bundled.mel(speech[:20_000], 16_000)
    np.save(tmp_path / "a.npy", mel * 8.686)
    np.save(tmp_path / "b.npy", mel)
    jobs = [Job(tmp_path / f"{name}.npy", tmp_path / f"{name}.wav") for name in "ab"]
    first, second = synthesize_files(bundled, jobs, threads=1)
    assert "a.npy: looks like decibels" in str(first.error)
    assert second.error is None
    assert results_of(bundled, tmp_path / "a.npy", check=False).error is None


def test_a_centred_mel_is_heard_in_time(bundled: Vocoder, speech: Floats, tmp_path: Path) -> None:
    """Half a hop of audio, before the beginning, is left out."""
    centred = bundled.mel_config.model_copy(update={"padding": "center"})
    mel = log_mel(speech[:20_000], centred)
    np.save(tmp_path / "a.npy", mel)
    result = results_of(bundled, tmp_path / "a.npy", contract=centred)
    audio, _ = soundfile.read(tmp_path / "a.wav")
    assert result.error is None
    assert audio.size == len(mel) * 200 - 100
    pieces = list(synthesize_pieces(bundled, [mel.tobytes()], "mel", PLAIN_SAMPLING, centred))
    np.testing.assert_allclose(np.concatenate(pieces), audio, atol=1e-4)


def test_adapt_is_asked_for(bundled: Vocoder, speech: Floats, tmp_path: Path) -> None:
    given = MEL_PRESETS["speechbrain-16k"]
    np.save(tmp_path / "a.npy", log_mel(speech[:20_000], given))
    refused = results_of(bundled, tmp_path / "a.npy", contract=given)
    assert "hop_samples 256, not 200" in str(refused.error)
    taken = results_of(bundled, tmp_path / "a.npy", contract=given, adapt=True)
    assert taken.error is None
    assert taken.notes[-1].startswith(
        "interpolated from a mel with window_samples 1024, not 800; hop_samples 256"
    )
    assert abs(taken.audio_s - 1.25) < 0.03


def test_python_adapts_as_the_command_does(bundled: Vocoder, speech: Floats, tmp_path: Path) -> None:
    given = MEL_PRESETS["tacotron2-22k"]
    mel = log_mel(resample(speech[:20_000], 16_000, given.sample_rate_hz), given)
    np.save(tmp_path / "a.npy", mel)
    assert results_of(bundled, tmp_path / "a.npy", contract=given, adapt=True).error is None
    expected, _ = soundfile.read(tmp_path / "a.wav")
    for contract in ("tacotron2-22k", given):
        adapted = bundled.adapt(mel.T.tolist(), contract)
        made = bundled.synthesize(adapted, seed=0)
        np.testing.assert_allclose(made, expected, atol=1e-4)
        pieces = (mel[i : i + 5] for i in range(0, len(mel), 5))
        streamed = np.concatenate(list(bundled.stream(bundled.adapt_stream(pieces, contract), seed=0)))
        np.testing.assert_array_equal(streamed, made)
    np.testing.assert_array_equal(bundled.adapt(mel, "speech-16k"), mel)
    log10 = bundled.adapt(mel / np.log(10), "log=log10")
    np.testing.assert_allclose(log10, np.maximum(mel, np.log(1e-5)), atol=1e-4)
    with pytest.raises(ConfigError, match="'waveglow' is not known; choose one of speech-16k"):
        bundled.adapt(mel, "waveglow")
    with pytest.raises(ConfigError, match="'waveglow' is not known"):
        bundled.adapt_stream([mel], "waveglow")
    with pytest.raises(MelError, match="80 bands"):
        list(bundled.adapt_stream([mel[:, :70]], given))
    with pytest.raises(MelError, match=r"80 bands"):
        bundled.adapt(mel[:, :70], given)


def test_a_converted_mel_is_checked_after_its_conversion(
    bundled: Vocoder, speech: Floats, tmp_path: Path
) -> None:
    decibels = bundled.mel_config.model_copy(update={"log": "db"})
    mel = convert_mel(bundled.mel(speech[:20_000], 16_000), bundled.mel_config, decibels)
    np.save(tmp_path / "a.npy", mel)
    assert results_of(bundled, tmp_path / "a.npy", contract=decibels).error is None
