"""Mels that a TTS made of the recordings: paired, checked, laid beside them, and used."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from gru_audio.arrays import FloatArray
from gru_audio.cli import app
from gru_audio.config import CONTEXT_FRAMES, MEL_PRESETS, Config, MelConfig, load_config
from gru_audio.data.dataset import Dataset
from gru_audio.data.given_mels import TOLERATED_FRAMES, read_given_mel
from gru_audio.data.prepare import prepare
from gru_audio.data.sources import plan_sources
from gru_audio.errors import DatasetError, MelError
from gru_audio.quality.material import find_originals
from gru_audio.signal.audio import from_int16
from gru_audio.signal.audio_file.reading import read_audio
from gru_audio.signal.mel import log_mel
from gru_audio.training.batches.crops import CropSource
from gru_audio.training.judging.free_running import FreeRunning

CLIPS = sorted((Path(__file__).parents[2] / "samples").glob("*.flac"))[:3]
CENTRED = MelConfig(padding="center")


def settings(mel: MelConfig | None = None, *overrides: str) -> Config:
    config = load_config("tiny", ["prep.min_duration_s=0.0", *overrides])
    return config if mel is None else config.model_copy(update={"mel": mel})


def as_predicted(mel: FloatArray, seed: int = 0) -> FloatArray:
    """A mel as an acoustic model makes it: smoothed over time, with an error."""
    smooth = (np.roll(mel, 1, 0) + 2 * mel + np.roll(mel, -1, 0)) / 4
    noise = np.random.default_rng(seed).standard_normal(mel.shape)
    return np.asarray(smooth + 0.2 * noise, np.float32)


def own_mel(path: Path, contract: MelConfig) -> tuple[FloatArray, FloatArray]:
    """A recording, and its mel."""
    audio, _ = read_audio(path)
    return audio, log_mel(np.pad(audio, (0, -audio.size % contract.hop_samples)), contract)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Recordings, and beside them mels of all but one."""
    for path in CLIPS:
        (tmp_path / "audio").mkdir(exist_ok=True)
        shutil.copy(path, tmp_path / "audio")
    (tmp_path / "mels").mkdir()
    for seed, path in enumerate(CLIPS[:2]):
        np.save(tmp_path / "mels" / f"mel-{path.stem}.npy", as_predicted(own_mel(path, MelConfig())[1], seed))
    return tmp_path


@pytest.mark.parametrize("contract", [MelConfig(), CENTRED, MEL_PRESETS["univoc-16k"]])
@pytest.mark.parametrize("shift", [-7, -1, 0, 1, 3])
@pytest.mark.parametrize("more", [-TOLERATED_FRAMES, 0, TOLERATED_FRAMES])
def test_a_mel_is_laid_beside_its_recording(
    tmp_path: Path, contract: MelConfig, shift: int, more: int
) -> None:
    audio, own = own_mel(CLIPS[0], contract)
    scale = float(own.std()) / float(log_mel(audio, MelConfig()).std())
    predicted = own + scale * (as_predicted(own) - own) if contract.scale != 1 else as_predicted(own)
    late = np.concatenate([predicted[:1]] * max(shift, 0) + [predicted[max(-shift, 0) :]])
    late = (
        late[: len(own)]
        if len(late) >= len(own)
        else np.pad(late, ((0, len(own) - len(late)), (0, 0)), "edge")
    )
    late = late[:more] if more < 0 else np.pad(late, ((0, more), (0, 0)), "edge")
    np.save(tmp_path / "a.npy", late)
    given = read_given_mel(tmp_path / "a.npy", audio, contract)
    assert given.shift == shift
    assert given.frames.shape == own.shape
    inside = slice(8, -12)
    np.testing.assert_array_equal(given.frames[inside], np.asarray(predicted, np.float32)[inside])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda mel: mel / np.log(10), "does not keep the contract: its values span 0.4"),
        (lambda mel: mel * 20 / np.log(10), "does not keep the contract: its values span 8"),
        (lambda mel: (mel - mel.min()) / np.ptp(mel), "does not keep the contract"),
        (lambda mel: mel + 4, r"their mean is \+35 dB off"),
        (lambda mel: mel[:-9], "the recording .* was it made of another recording"),
        (lambda mel: mel[::-1], "does not match its recording"),
        (lambda mel: mel[:, :40], "40"),
        (lambda mel: np.full_like(mel, -5), "does not match its recording"),
        (lambda mel: np.full_like(mel, np.nan), "NaN"),
    ],
)  # fmt: skip
def test_what_is_not_this_recordings_mel_is_refused(tmp_path: Path, change: Any, reason: str) -> None:
    audio, own = own_mel(CLIPS[0], MelConfig())
    np.save(tmp_path / "a.npy", change(as_predicted(own)))
    with pytest.raises(MelError, match=reason) as caught:
        read_given_mel(tmp_path / "a.npy", audio, MelConfig())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "other",
    [
        {"mel_scale": "htk"},
        {"f_min_hz": 80.0, "f_max_hz": 7600.0},
        {"preemphasis": 0.97},
        {"f_max_hz": 4000.0},
    ],
    ids=str,
)
def test_other_bands_are_refused(tmp_path: Path, other: dict[str, Any]) -> None:
    audio, _ = own_mel(CLIPS[0], MelConfig())
    np.save(tmp_path / "a.npy", as_predicted(own_mel(CLIPS[0], MelConfig(**other))[1]))
    with pytest.raises(
        MelError, match=r"its bands are \d+ dB off, each by another amount; state the mel's f_min_hz"
    ):
        read_given_mel(tmp_path / "a.npy", audio, MelConfig())


@pytest.mark.parametrize("kind", ["<f2", ">f4", "<f8", "fortran", "turned", "batch of one"])
def test_however_the_numbers_are_stored(tmp_path: Path, kind: str) -> None:
    audio, own = own_mel(CLIPS[0], MelConfig())
    mel = as_predicted(own)
    stored = {"fortran": np.asfortranarray(mel), "turned": mel.T, "batch of one": mel[None]}
    np.save(tmp_path / "a.npy", stored[kind] if kind in stored else mel.astype(kind))
    given = read_given_mel(tmp_path / "a.npy", audio, MelConfig())
    assert given.shift == 0
    np.testing.assert_allclose(given.frames, mel, atol=5e-3)


def test_a_mel_that_states_another_log_is_converted(tmp_path: Path) -> None:
    audio, own = own_mel(CLIPS[0], MelConfig())
    theirs = MelConfig(log="log10", floor=1e-5)
    np.savez(tmp_path / "a.npz", mel=own / np.log(10), mel_config=json.dumps(theirs.model_dump()))
    given = read_given_mel(tmp_path / "a.npz", audio, MelConfig())
    np.testing.assert_allclose(given.frames, own, atol=1e-4)


def test_a_mel_of_another_contract_is_told_what_prep_can_do(tmp_path: Path) -> None:
    audio, own = own_mel(CLIPS[0], MelConfig())
    theirs = MelConfig(hop_samples=256)
    np.savez(tmp_path / "a.npz", mel=own, mel_config=json.dumps(theirs.model_dump()))
    with pytest.raises(
        MelError, match=r"hop_samples 256, not 200; .* under its contract \(the config's \[mel\]\)$"
    ):
        read_given_mel(tmp_path / "a.npz", audio, MelConfig())


def test_names_are_paired(tmp_path: Path) -> None:
    for name in ("ann/1.wav", "ann/2.wav", "bob/1.wav", "bob/3.x.wav", "bob/4.wav"):
        (tmp_path / "audio" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "audio" / name).touch()
    for name in ("ann/1.npy", "mel-2.npy", "bob/1-feats.npy", "3.x.wav.npy", "notes.txt"):
        (tmp_path / "mels" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mels" / name).touch()
    plan = plan_sources([tmp_path / "audio"], mels=tmp_path / "mels")
    mels = tmp_path / "mels"
    found = {source.name: source.mel and str(source.mel.relative_to(mels)) for source in plan.sources}
    assert found == {
        "ann/1": "ann/1.npy", "ann/2": "mel-2.npy", "bob/1": "bob/1-feats.npy", "bob/3.x": "3.x.wav.npy", "bob/4": None,
    }  # fmt: skip
    assert plan.notes == (f"{tmp_path / 'mels'}: mels for 4 of 5 recordings",)
    (tmp_path / "mels/more").mkdir()
    (tmp_path / "mels/more/2_mel.npy").touch()
    with pytest.raises(DatasetError, match="several mels are named 2"):
        plan_sources([tmp_path / "audio"], mels=tmp_path / "mels")
    for folder, reason in (("audio", "has no mels"), ("none", "no such folder of mels")):
        with pytest.raises(DatasetError, match=reason):
            plan_sources([tmp_path / "audio"], mels=tmp_path / folder)


@pytest.mark.parametrize("overrides", [[], ["prep.longest_s=4.0"], ["prep.min_duration_s=9.0"]])
@pytest.mark.parametrize("padding", ["same", "center"])
def test_clips_hold_the_frames_of_their_own_audio(corpus: Path, overrides: list[str], padding: str) -> None:
    """Trimmed, cut or padded: what a clip's audio gives and what it holds belong together, frame by frame."""
    config = settings(MelConfig.model_validate({"padding": padding}), *overrides)
    for path in CLIPS[:2]:
        np.save(corpus / "mels" / f"mel-{path.stem}.npy", own_mel(path, config.mel)[1])
    prepare([corpus / "audio"], corpus / "out", config, mels=corpus / "mels", jobs=1)
    dataset = Dataset.open(corpus / "out")
    having = [clip for clip in dataset.clips() if clip.has_mel]
    assert {clip.name.partition("@")[0] for clip in having} == {path.stem for path in CLIPS[:2]}
    for clip in having:
        mel, computed = dataset.given_mel(clip), log_mel(from_int16(dataset.audio(clip)), config.mel)
        assert mel.shape == computed.shape
        inside = slice(5, -5)
        loud = computed[inside] > computed.max() - 8
        assert np.median(np.abs(mel - computed)[inside][loud]) < 0.02
        np.testing.assert_array_equal(dataset.given_mel(clip, 3, 9), mel[3:9])


def test_a_bad_mel_costs_its_recording_alone(corpus: Path) -> None:
    np.save(corpus / "mels" / f"mel-{CLIPS[0].stem}.npy", np.zeros((5, 80), np.float32))
    summary = prepare([corpus / "audio"], corpus / "out", settings(), mels=corpus / "mels", jobs=1)
    assert summary.clips >= 2
    assert [path for path, _ in summary.skipped] == [str(corpus / "audio" / CLIPS[0].name)]
    assert "has 5 frames" in summary.skipped[0][1]
    with pytest.raises(DatasetError, match=r"set prep\.loudness_lufs to 0"):
        prepare(
            [corpus / "audio"], corpus / "x", settings(None, "prep.loudness_lufs=-23.0"), mels=corpus / "mels"
        )


def test_training_validation_and_evaluation_use_them(corpus: Path) -> None:
    overrides = ["prep.valid_fraction=0.34", "prep.test_fraction=0.33", "train.batch_size=64"]
    config = settings(None, *overrides)
    for path in CLIPS[2:]:
        np.save(corpus / "mels" / f"{path.stem}.npy", as_predicted(own_mel(path, MelConfig())[1]))
    prepare([corpus / "audio"], corpus / "out", config, mels=corpus / "mels", jobs=1)
    dataset = Dataset.open(corpus / "out")
    assert all(clip.has_mel for clip in dataset.clips())

    def batch(share: float, split: str = "train", *more: str) -> FloatArray:
        chosen = settings(None, *overrides, f"train.given_mel_share={share}", *more)
        return CropSource(dataset, chosen, split, CONTEXT_FRAMES).batch(3).mel

    for split in ("train", "valid"):
        assert np.abs(batch(1.0, split) - batch(0.0, split)).max() > 0.1
    own, given, mixed = batch(0.0), batch(1.0), batch(0.5)
    assert not np.array_equal(mixed, own)
    assert not np.array_equal(mixed, given)
    np.testing.assert_array_equal(batch(0.5, "valid"), batch(1.0, "valid"))
    # What is given is not augmented: the recording's own mel would no longer be what goes with it.
    np.testing.assert_array_equal(batch(1.0, "train", "train.augment_polarity=true"), given)

    held_out = FreeRunning(dataset, config, lambda voice, mels: []).clips[0]
    clip = next(clip for clip in dataset.clips("valid") if held_out.name.endswith(clip.name))
    np.testing.assert_array_equal(held_out.mel, dataset.given_mel(clip)[: len(held_out.mel)])
    for original in find_originals(corpus / "out")[0]:
        clip = next(clip for clip in dataset.clips() if clip.name == original.name)
        assert original.mel is not None
        np.testing.assert_array_equal(original.mel, dataset.given_mel(clip))


def test_the_command_tells_what_it_paired_and_moved(corpus: Path) -> None:
    path = corpus / "mels" / f"mel-{CLIPS[0].stem}.npy"
    np.save(path, np.concatenate([np.load(path)[:2], np.load(path)]))
    arguments = [
        "prep",
        corpus / "audio",
        "--mels",
        corpus / "mels",
        "-o",
        corpus / "out",
        "-c",
        "tiny",
        "-j",
        "1",
    ]
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.stderr
    assert "mels for 2 of 3 recordings" in result.stderr
    assert "lay 2 frames too late and were moved" in result.stderr
