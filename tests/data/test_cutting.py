"""Long recordings cut at pauses, and what becomes of their pieces."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gru_audio.config import Config, PrepConfig, load_config
from gru_audio.data.cutting import SHORTEST_S, cut_at_pauses
from gru_audio.data.dataset import Dataset
from gru_audio.data.prepare import prepare
from gru_audio.data.survey import survey
from gru_audio.errors import ConfigError

RATE = 16_000


def talk(*parts_s: float, rate: int = RATE, pause_level: float = 0.0, seed: int = 0) -> NDArray[np.float32]:
    """Noise and pauses in turn, of these lengths."""
    rng = np.random.default_rng(seed)
    parts = [
        rng.standard_normal(round(seconds * rate)) * (pause_level if index % 2 else 0.1)
        for index, seconds in enumerate(parts_s)
    ]
    return np.concatenate(parts).astype(np.float32)


def config(**prep: Any) -> Config:
    return load_config("tiny").model_copy(update={"prep": PrepConfig(min_duration_s=0.25, **prep)})


@pytest.mark.parametrize("pause_level", [0.0, 1e-4, 3e-3])
def test_cuts_fall_into_pauses(pause_level: float) -> None:
    audio = talk(5, 0.5, 6, 0.5, 7, 0.5, 4, pause_level=pause_level)
    bounds = cut_at_pauses(audio, RATE, 8.0)
    cuts_s = [stop / RATE for _, stop in bounds[:-1]]
    assert cuts_s == pytest.approx([5.25, 11.75, 19.25], abs=0.2)


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.floats(0.05, 9), min_size=1, max_size=9),
    st.floats(4, 15),
    st.sampled_from([8_000, 11_025, 22_050]),
    st.sampled_from([0.0, 1e-3, 0.1]),
)
def test_pieces_have_lengths_within_bounds_and_leave_nothing_out(
    parts_s: list[float], longest_s: float, rate: int, pause_level: float
) -> None:
    audio = talk(*parts_s, rate=rate, pause_level=pause_level)
    bounds = cut_at_pauses(audio, rate, longest_s)
    assert bounds[0][0] == 0
    assert bounds[-1][1] == audio.size
    assert [start for start, _ in bounds[1:]] == [stop for _, stop in bounds[:-1]]
    if audio.size > longest_s * rate:
        assert all(SHORTEST_S * rate - 1 <= stop - start <= longest_s * rate + 1 for start, stop in bounds)
    else:
        assert len(bounds) == 1


def test_nothing_is_cut_where_that_is_off() -> None:
    assert cut_at_pauses(talk(30), RATE, 0.0) == [(0, 30 * RATE)]


def test_settings_that_cannot_be_kept_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"longest_s \(3\) must be at least 4, or 0"):
        load_config("tiny", ["prep.longest_s=3.0"])


def test_a_long_recording_becomes_clips_with_their_times(tmp_path: Path) -> None:
    audio = talk(6, 1.0, 6, 1.0, 6, 1.0, 6)
    soundfile.write(tmp_path / "talk.wav", audio, RATE)
    summary = prepare([tmp_path / "talk.wav"], tmp_path / "out", config(longest_s=8.0), jobs=1)
    assert all(count > 0 for count in summary.splits.values())
    assert summary.warnings == ()
    dataset = Dataset.open(tmp_path / "out")
    assert dataset.n_clips == 4
    for clip in dataset.clips():
        name, _, times = clip.name.partition("@")
        start_s, stop_s = map(float, times.split("-"))
        assert name == "talk"
        n_samples = round(stop_s * RATE) - round(start_s * RATE)
        assert 0 <= clip.n_samples - n_samples < dataset.mel.hop_samples
        recorded, _ = soundfile.read(tmp_path / "talk.wav", dtype="int16")
        wanted = recorded[round(start_s * RATE) : round(stop_s * RATE)].astype(int)
        got = dataset.audio(clip, 0, n_samples).astype(int)
        assert np.abs(got - wanted).max() <= 1  # rounding alone: the times are the samples'
        assert dataset.lags(clip).shape == (clip.n_samples // dataset.mel.hop_samples,)


def test_silent_stretches_of_a_long_recording_make_no_clips(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "talk.wav", talk(6, 40, 6, 30, 6, pause_level=1e-5), RATE)
    prepare([tmp_path / "talk.wav"], tmp_path / "out", config(longest_s=8.0), jobs=1)
    dataset = Dataset.open(tmp_path / "out")
    assert 18 <= dataset.duration_s < 30
    assert dataset.n_clips <= 6


@pytest.mark.parametrize(("lengths_s", "splits"), [
    ((13.0,), 3), ((6.5,), 2), ((3.0,), 1), ((5.0, 5.0), 3), ((3.0, 3.0), 2), ((1.0, 1.0, 1.0), 3), ((70.0,), 3),
])  # fmt: skip
def test_few_recordings_fill_as_many_splits_as_they_can(
    tmp_path: Path, lengths_s: tuple[float, ...], splits: int
) -> None:
    for number, seconds in enumerate(lengths_s):
        soundfile.write(tmp_path / f"{number}.wav", talk(seconds, seed=number), RATE)
    found = survey([tmp_path], config(), jobs=1)
    summary = prepare([tmp_path], tmp_path / "out", config(), jobs=1)
    filled = sum(count > 0 for count in summary.splits.values())
    assert filled == splits
    assert found.clips == summary.clips
    assert found.warnings == summary.warnings
    if splits == 1:
        assert summary.warnings[0].startswith(
            "the split 'valid' is empty, so that training will refuse the dataset"
        )
    else:
        assert summary.warnings == ()


def test_what_training_would_refuse_is_said(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", talk(30), RATE)
    whole = prepare([tmp_path / "a.wav"], tmp_path / "whole", config(longest_s=0.0), jobs=1)
    assert "give more recordings, or set prep.longest_s" in whole.warnings[0]
    none = prepare(
        [tmp_path / "a.wav"], tmp_path / "none", config(valid_fraction=0.0, test_fraction=0.0), jobs=1
    )
    assert "'valid' is empty" in none.warnings[0]
    assert "set prep.valid_fraction above 0" in none.warnings[0]
    assert "no clip is held out" in none.warnings[1]
