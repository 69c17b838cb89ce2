"""Measures of made audio: known answers, the direction of each, and what they refuse."""

import sys
import types

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gru_audio.config import MelConfig
from gru_audio.errors import AudioError
from gru_audio.evaluation.columns import MEASURES, WITHOUT_REFERENCE, missing_keys
from gru_audio.quality import measures
from gru_audio.quality.measures import (
    log_mel_distance_db,
    mel_cepstral_distortion_db,
    multi_resolution_stft_distance,
    silence_level_db,
)
from gru_audio.quality.pitch_measures import PitchTrack, compare_pitch, track_f0

Floats = NDArray[np.float32]
RATE = 16_000
PAIRWISE = ("pesq", "stoi", "estoi", "log_mel_distance_db", "mel_cepstral_distortion_db", "silence_level_db")


def measured(name: str, reference: Floats, made: Floats) -> float:
    figure: float = getattr(measures, name)(reference, made, RATE)
    return figure


def noisy(audio: Floats, level: float) -> Floats:
    noise = np.random.default_rng(0).standard_normal(audio.size)
    return np.asarray(audio + level * noise, np.float32)


@pytest.mark.parametrize("name", PAIRWISE)
def test_more_noise_is_worse(name: str, speech: Floats) -> None:
    clip = speech[: 2 * RATE]
    same, little, much = (measured(name, clip, noisy(clip, level)) for level in (0.0, 0.002, 0.05))
    best = {"pesq": pytest.approx(4.644, abs=0.001), "stoi": pytest.approx(1), "estoi": pytest.approx(1)}
    assert same == best.get(name, 0.0)
    assert same > little > much if name in best else same < little < much


def test_a_gain_is_so_many_decibels(tones: Floats) -> None:
    """All of it in the log-mel, where nothing lies at the floor; none in the shape of the envelope."""
    audio = noisy(tones, 0.05)
    louder = np.asarray(2 * audio, np.float32)
    assert log_mel_distance_db(audio, louder, RATE) == pytest.approx(6.02, abs=0.01)
    assert mel_cepstral_distortion_db(audio, louder, RATE) == pytest.approx(0, abs=0.01)
    assert silence_level_db(audio, louder, RATE) == pytest.approx(6.02, abs=0.01)


@pytest.mark.parametrize("spectrum", ["magnitude", "power"])
def test_decibels_do_not_depend_on_the_contract(spectrum: str, tones: Floats) -> None:
    contract = MelConfig.model_validate({"spectrum": spectrum, "log": "db", "floor": 1e-10})
    audio = noisy(tones, 0.05)
    distance = log_mel_distance_db(audio, np.asarray(audio / 2, np.float32), RATE, contract)
    assert distance == pytest.approx(6.02, abs=0.01)


def test_cepstra_see_a_cosine_over_the_bands(monkeypatch: pytest.MonkeyPatch, tones: Floats) -> None:
    """A difference of A cos(k x) over the bands has an RMS of A / sqrt(2), up to the 13th."""
    bands = (np.arange(80) + 0.5) / 80 * np.pi

    def with_wave(k: int) -> float:
        levels = (3.0 * np.cos(k * bands)[None], np.zeros((1, 80)))
        monkeypatch.setattr(measures, "mel_levels_db", lambda *_: levels)
        return mel_cepstral_distortion_db(tones, tones, RATE)

    assert with_wave(1) == pytest.approx(3 / np.sqrt(2))
    assert with_wave(13) == pytest.approx(3 / np.sqrt(2))
    assert max(with_wave(0), with_wave(14)) < 1e-9


def test_a_stft_distance_of_half_the_level(tones: Floats) -> None:
    """Convergence is 1/2 and the log difference ln 2, but for magnitudes at the floor."""
    audio = noisy(tones, 0.1)
    distance = multi_resolution_stft_distance(audio, np.asarray(audio / 2, np.float32))
    assert distance == pytest.approx(0.5 + np.log(2), abs=0.001)
    assert multi_resolution_stft_distance(audio, audio) == 0


def test_silence_is_where_the_reference_is_quietest() -> None:
    loud = np.random.default_rng(0).standard_normal(9 * 320).astype(np.float32) * np.float32(0.1)
    reference = np.concatenate([loud, np.zeros(320, np.float32)])  # one frame of ten is silent
    hiss = np.concatenate([loud * 5, np.full(320, 1e-3, np.float32)])
    assert silence_level_db(reference, hiss.astype(np.float32), RATE) == pytest.approx(30, abs=0.01)
    assert silence_level_db(reference, reference, RATE) == 0
    assert silence_level_db(hiss.astype(np.float32), reference, RATE) == pytest.approx(-30, abs=0.01)


def test_a_tone_a_few_cents_sharp() -> None:
    """Finer than pYIN's steps of 10 cents."""
    t = np.arange(RATE // 2) / RATE

    def buzz(f0_hz: float) -> Floats:
        return np.asarray(0.1 * sum(np.sin(2 * np.pi * f0_hz * k * t) / k for k in range(1, 12)), np.float32)

    tracks = [track_f0(buzz(150.0 * ratio), RATE) for ratio in (1, 2 ** (4 / 1200))]
    error = compare_pitch(*tracks)
    assert error.cents == pytest.approx(4, abs=1.5)
    assert error.voicing_error_percent < 5
    silent = compare_pitch(tracks[0], track_f0(np.zeros(RATE // 2, np.float32), RATE))
    assert silent.cents is None
    assert silent.voicing_error_percent > 80
    assert np.median(track_f0(buzz(222.2), RATE).f0_hz) == pytest.approx(222.2, rel=0.001)


def test_tracks_are_compared_where_both_are_voiced() -> None:
    reference = PitchTrack(np.array([100.0, 100, 100, 100]), np.array([True, True, True, False]))
    made = PitchTrack(np.array([200.0, 100, 400, 100]), np.array([True, True, False, True]))
    assert compare_pitch(reference, made) == (600, 50)


@pytest.mark.parametrize(
    ("name", "n_samples", "says"),
    [
        ("pesq", 3_000, "PESQ takes at least 0.25 s"),
        ("stoi", 3_000, "STOI takes at least 0.4 s"),
        ("estoi", 8_000, "at least 0.4 s that is not silent"),
        ("log_mel_distance_db", 100, "shorter than a frame"),
        ("silence_level_db", 100, "shorter than a frame"),
    ],
)
def test_clips_too_short_are_refused(name: str, n_samples: int, says: str, speech: Floats) -> None:
    clip = speech[RATE : RATE + n_samples].copy()
    clip[4_000:] = 0
    with pytest.raises(AudioError, match=says):
        measured(name, clip, clip)


@pytest.mark.parametrize("name", [name for name in PAIRWISE if name != "silence_level_db"])
def test_a_silent_reference_is_refused(name: str) -> None:
    silence = np.zeros(RATE, np.float32)
    with pytest.raises(AudioError, match="the reference is silent"):
        measured(name, silence, silence)
    with pytest.raises(AudioError, match="cut both to the same"):
        measured(name, silence, silence[1:])


def test_silence_that_was_made_is_rated(speech: Floats) -> None:
    clip = speech[: 2 * RATE]
    for name in PAIRWISE:
        assert np.isfinite(measured(name, clip, np.zeros_like(clip)))
    assert (
        measured("pesq", clip, np.zeros_like(clip)) == 1.04
    )  # the worst, so that it is no way to be left out


def test_pesq_of_a_long_clip_with_many_utterances(speech: Floats) -> None:
    """In one piece the package would end the process: it has room for 50 utterances."""
    word = np.concatenate([speech[RATE : RATE + 4_800], np.zeros(4_800, np.float32)])
    clip = np.tile(word, 60)
    assert 1 < measured("pesq", clip, noisy(clip, 0.01)) < 4.5


def test_dnsmos_gets_16_khz_within_full_scale(monkeypatch: pytest.MonkeyPatch, speech: Floats) -> None:
    given = list[tuple[Floats, int]]()

    def run(audio: Floats, rate: int) -> dict[str, float]:
        given.append((audio, rate))
        return {"ovrl_mos": 3.25, "sig_mos": 1.0}

    package = types.ModuleType("speechmos.dnsmos")
    vars(package)["run"] = run
    parent = types.ModuleType("speechmos")
    vars(parent)["dnsmos"] = package
    monkeypatch.setitem(sys.modules, "speechmos", parent)
    assert measures.dnsmos(np.asarray(3 * speech[:8_000], np.float32), 8_000) == 3.25
    ((audio, rate),) = given
    assert (audio.size, rate) == (16_000, RATE)
    assert np.abs(audio).max() == 1
    with pytest.raises(AudioError, match="silent"):
        measures.dnsmos(np.zeros(8_000, np.float32), RATE)


def test_packages_that_are_not_there_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pystoi", None)
    monkeypatch.setitem(sys.modules, "speechmos.dnsmos", None)
    monkeypatch.setitem(sys.modules, "distillmos", None)
    assert missing_keys() == ["stoi", "estoi", "dnsmos", "distillmos"]


def test_distillmos_gets_16_khz_and_its_print_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, speech: Floats, capsys: pytest.CaptureFixture[str]
) -> None:
    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            print("weights loaded from somewhere")

        def forward(self, audio: torch.Tensor) -> torch.Tensor:
            assert audio.dtype == torch.float32
            return torch.full((audio.shape[0], 1), audio.shape[1] / RATE)

    package = types.ModuleType("distillmos")
    vars(package)["ConvTransformerSQAModel"] = Model
    monkeypatch.setitem(sys.modules, "distillmos", package)
    measures.distillmos_model.cache_clear()
    assert measures.distillmos(speech[:8_000], 8_000) == 1.0
    with pytest.raises(AudioError, match="silent"):
        measures.distillmos(np.zeros(8_000, np.float32), RATE)
    measures.distillmos_model.cache_clear()
    assert capsys.readouterr().out == ""


def test_columns_are_distinct_and_know_their_worst() -> None:
    keys = [measure.key for measure in MEASURES]
    assert len(set(keys)) == len(keys)
    assert set(keys) >= WITHOUT_REFERENCE
    worst = {measure.key: measure.worst([1.0, -3.0, 2.0]) for measure in MEASURES}
    assert (worst["pesq"], worst["mcd_db"]) == (-3.0, 2.0)
