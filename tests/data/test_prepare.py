"""From files to a dataset: finding sources, treating clips, shards, resuming, the command."""

import dataclasses
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from typer.testing import CliRunner

from gru_audio.cli import app
from gru_audio.config import Config, MelConfig, PrepConfig
from gru_audio.data import shard_making, treatment
from gru_audio.data.dataset import Dataset
from gru_audio.data.outcome import Summary
from gru_audio.data.prepare import prepare
from gru_audio.data.reading import read_source
from gru_audio.data.shard_making import group
from gru_audio.data.sources import Source, plan_sources
from gru_audio.data.survey import survey
from gru_audio.data.treatment import clipped_samples, pad, treat
from gru_audio.errors import AudioError, DatasetError, GruAudioError, OutputError
from gru_audio.parallel import map_in_order
from gru_audio.progress import Progress
from gru_audio.signal.audio import from_int16, to_int16

RATE = 16_000
HOP = MelConfig().hop_samples
CONFIG = Config(prep=PrepConfig(min_duration_s=0.25))


def voice(seconds: float, f0_hz: float = 120.0, rate: int = RATE, level: float = 0.05) -> NDArray[np.float64]:
    """A pulse-like tone with 10 harmonics."""
    time = np.arange(round(seconds * rate)) / rate
    harmonics = [np.cos(2 * np.pi * f0_hz * k * time) for k in range(1, 11)]
    return np.asarray(level * np.sum(harmonics, axis=0))


def write(path: Path, audio: NDArray[np.float64] | None = None, rate: int = RATE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, voice(0.3) if audio is None else audio, rate)
    return path


def names_and_speakers(*sources: Path, input_format: str | None = None) -> dict[str, str]:
    return {source.name: source.speaker for source in plan_sources(sources, input_format).sources}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Seven clips of different pitch in two folders."""
    for number in range(7):
        folder = "ann" if number < 4 else "bob"
        write(tmp_path / "corpus" / folder / f"{number}.wav", voice(0.3, 100 + 20 * number))
    return tmp_path / "corpus"


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_making, "GROUP_FILES", 2)


# Finding sources


def test_flat_folders_are_speakers(tmp_path: Path) -> None:
    root = tmp_path / "mine"
    for name in ("b.wav", "a.FLAC", "ann/x.wav", "ann/day 2/x.wav", ".hidden/y.wav", ".y.wav"):
        write(root / name)
    (root / "notes.txt").write_text("words")
    plan = plan_sources([root])
    assert [(source.name, source.speaker) for source in plan.sources] == [
        ("a", "mine"),
        ("b", "mine"),
        ("ann/x", "ann"),
        ("ann/day 2/x", "ann"),
    ]
    assert plan.ignored == 1
    assert [source.relative for source in plan.sources][:2] == ["a.FLAC", "b.wav"]


def test_ljspeech_takes_what_its_metadata_lists(tmp_path: Path) -> None:
    root = tmp_path / "LJSpeech-1.1"
    for name in ("LJ001-0002", "LJ001-0001", "LJ001-0003"):
        write(root / "wavs" / f"{name}.wav")
    (root / "metadata.csv").write_text("LJ001-0001|a|a\nLJ001-0002|b|b\nLJ001-0009|lost|lost\n")
    plan = plan_sources([root])
    assert [(source.name, source.speaker) for source in plan.sources] == [
        ("wavs/LJ001-0001", "LJSpeech-1.1"),
        ("wavs/LJ001-0002", "LJSpeech-1.1"),
        ("wavs/LJ001-0009", "LJSpeech-1.1"),
    ]
    assert list(plan.sources)[-1].size_bytes == -1
    assert plan.ignored == 2  # metadata.csv and the clip that is not listed


def test_a_metadata_file_of_another_kind_does_not_hide_the_audio(tmp_path: Path) -> None:
    write(tmp_path / "wavs" / "a.wav")
    (tmp_path / "metadata.csv").write_text("file,text\na.wav,hello\n")
    assert list(names_and_speakers(tmp_path)) == ["wavs/a"]


@pytest.mark.parametrize("below", ["", "wav48_silence_trimmed", "wav48_silence_trimmed/p225"])
def test_vctk_takes_one_microphone(tmp_path: Path, below: str) -> None:
    root = tmp_path / "VCTK"
    for name in ("p225/p225_001_mic1", "p225/p225_001_mic2", "p225/p225_002_mic2", "s5/s5_001_mic1"):
        write(root / "wav48_silence_trimmed" / f"{name}.flac")
    found = names_and_speakers(root / below)
    speakers = {Path(name).name: speaker for name, speaker in found.items()}
    want = {"p225_001_mic1": "p225", "p225_002_mic2": "p225", "s5_001_mic1": "s5"}
    assert speakers == ({k: v for k, v in want.items() if v == "p225"} if below.endswith("p225") else want)


@pytest.mark.parametrize("below", ["", "train-clean-100", "train-clean-100/19"])
def test_libritts_speakers_are_its_first_numbers(tmp_path: Path, below: str) -> None:
    write(tmp_path / "train-clean-100/19/198/19_198_000000_000000.wav")
    write(tmp_path / "train-clean-100/19/198/19-198-0001.flac")  # as LibriSpeech writes it
    if not below.endswith("19"):
        write(tmp_path / "train-clean-100/26/495/26_495_000001_000000.wav")
    found = set(names_and_speakers(tmp_path / below).values())
    assert found == ({"19"} if below.endswith("19") else {"19", "26"})


def test_colliding_names_are_kept_apart(tmp_path: Path) -> None:
    for name in ("en/wav/1.wav", "it/wav/1.wav", "it/wav/1.flac"):
        write(tmp_path / name)
    assert list(names_and_speakers(tmp_path / "en/wav")) == ["1"]
    assert names_and_speakers(tmp_path / "en/wav", tmp_path / "it/wav") == {
        "1": "wav",
        "1.flac": "wav",
        "1.wav": "wav",
    }
    (tmp_path / "it/wav/1.flac").unlink()
    assert names_and_speakers(tmp_path / "en/wav", tmp_path / "it/wav") == {
        "en/wav/1": "en/wav/wav",
        "it/wav/1": "it/wav/wav",
    }
    assert len(names_and_speakers(tmp_path / "en/wav/1.wav", tmp_path / "it/wav/1.wav")) == 2


def test_names_stay_unique_when_suffixes_are_put_back(tmp_path: Path) -> None:
    for name in ("a.wav", "a.flac", "a.wav.flac", "a.wav.flac.wav", "b.x.wav"):
        write(tmp_path / name)
    found = {source.relative: source.name for source in plan_sources([tmp_path]).sources}
    assert found == {
        "a.flac": "a.flac",
        "a.wav": "a.wav",
        "a.wav.flac": "a.wav.flac",
        "a.wav.flac.wav": "a.wav.flac.wav",
        "b.x.wav": "b.x",
    }


def test_names_whose_bytes_read_the_same_are_numbered(tmp_path: Path) -> None:
    for name in (b"caf\xe9.wav", rb"caf\xe9.wav"):
        write(tmp_path / "a.wav", voice(0.3, 100 + len(name))).rename(tmp_path / os.fsdecode(name))
    assert list(names_and_speakers(tmp_path)) == [r"caf\xe9.wav", r"caf\xe9.wav (2)"]
    prepare([tmp_path], tmp_path / "out", CONFIG, jobs=1)
    assert Dataset.open(tmp_path / "out").n_clips == 2


@pytest.fixture
def locked(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in the corpus that may not be searched, for root neither."""
    folder = write(corpus / "locked/secret.wav").parent
    scandir = os.scandir

    def refuse(path: str | Path | int = ".") -> object:
        # An open folder is pytest's, which cleans up.
        if not isinstance(path, int) and os.fspath(path) == str(folder):
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    return folder


def test_folders_that_cannot_be_searched_are_named(corpus: Path, locked: Path, tmp_path: Path) -> None:
    code, _, err = run(corpus, "-o", tmp_path / "out", "-j", "1", "-c", "tiny")
    assert code == 1
    assert (
        err == f"error: {locked}: the folder cannot be searched (Permission denied); check who may read it\n"
    )
    assert Dataset.open(tmp_path / "out").n_clips == 7
    code, out, _ = run(corpus, "--dry-run", "-j", "1", "--json")
    assert (code, json.loads(out)["unusable"][0][0]) == (1, str(locked))
    with pytest.raises(DatasetError, match=r"locked: the folder cannot be searched \(Permission denied\)"):
        plan_sources([locked])


def test_a_file_that_is_given_twice_is_one_clip(tmp_path: Path) -> None:
    file = write(tmp_path / "a/x.wav")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    (tmp_path / "a/round").symlink_to(tmp_path / "a")
    assert list(names_and_speakers(file, tmp_path / "a", tmp_path / "link", tmp_path)) == ["x"]


def test_a_dataset_and_a_run_among_the_recordings(corpus: Path, tmp_path: Path) -> None:
    """What a voice made of the recordings is no recording; of other folders named so all is taken."""
    clips = names_and_speakers(corpus)
    write(corpus / "run/samples/step-000000002-a.wav")
    write(corpus / "eve/samples/b.wav")
    for name in ("config.toml", "metrics.jsonl"):
        (corpus / "run" / name).write_text("")
    plan = plan_sources([corpus])
    assert {source.name for source in plan.sources} == {*clips, "eve/samples/b"}
    assert plan.notes == (f"{corpus / 'run'}: a training run; the audio that it made is passed over",)
    assert len(names_and_speakers(corpus / "run/samples")) == 1
    first = prepare([corpus], corpus / "data", CONFIG, jobs=1)
    assert prepare([corpus], corpus / "data", CONFIG, jobs=1).kept_shards == first.made_shards


def test_missing_and_empty_sources_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="nowhere: no such file or folder"):
        plan_sources([tmp_path / "nowhere"])
    (tmp_path / "a.txt").touch()
    (tmp_path / "b.txt").touch()
    with pytest.raises(DatasetError, match=r"no audio files; found 2 × \.txt; looked for .*\.wav"):
        plan_sources([tmp_path])


def test_input_format_chooses_the_files_of_that_suffix(tmp_path: Path) -> None:
    for name in ("a.g722", "b.G722", "c.wav", "read.me"):
        (tmp_path / name).touch()
    assert set(names_and_speakers(tmp_path, input_format="g722")) == {"a", "b"}
    assert set(names_and_speakers(tmp_path, input_format="alaw")) == {"a", "b", "c"}
    assert set(names_and_speakers(tmp_path / "read.me", input_format="alaw")) == {"read"}


def test_names_of_any_bytes_can_be_stored(tmp_path: Path) -> None:
    odd = os.fsdecode(b"caf\xe9 \xf0\x9f\x8e\xb5")
    write(tmp_path / "in.wav").rename(tmp_path / f"{odd}.wav")
    summary = prepare([tmp_path], tmp_path / "out", CONFIG, jobs=1)
    dataset = Dataset.open(tmp_path / "out")
    assert summary.clips == 1
    assert dataset.clips()[0].name == "caf\\xe9 🎵"
    assert dataset.audio(dataset.clips()[0]).any()
    found = survey([tmp_path / f"{odd}.wav"] * 2, CONFIG, jobs=1)
    assert found.files == 1


def test_groups_are_bounded_by_number_and_by_bytes(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = list(plan_sources([corpus]).sources)
    assert [len(found) for found in group(sources)] == [2, 2, 2, 1]
    monkeypatch.setattr(shard_making, "GROUP_FILES", 64)
    monkeypatch.setattr(shard_making, "GROUP_BYTES", 3 * sources[0].size_bytes)
    assert [len(found) for found in group(sources)] == [3, 3, 1]
    flac = [dataclasses.replace(source, path=Path("a.flac")) for source in sources]
    assert [len(found) for found in group(flac)] == [1] * 7


# Treating clips


@pytest.mark.parametrize("n", [0, 1, 399, 400, 401, 1_000])
@pytest.mark.parametrize("least", [0, 1, 650])
def test_pad_reaches_length_and_whole_hops(n: int, least: int) -> None:
    pcm = np.arange(1, n + 1).astype(np.int16)
    got = pad(pcm, least, 200)
    assert got.size % 200 == 0
    assert max(n, least) <= got.size < max(n, least) + 200
    before = max(0, least - n) // 2
    np.testing.assert_array_equal(got[before : before + n], pcm)
    assert np.count_nonzero(got) == n


def test_treat_resamples_trims_and_pads() -> None:
    silence = np.zeros(48_000)
    audio = np.concatenate([silence, voice(0.5, rate=48_000), silence]).astype(np.float32)
    config = Config(prep=PrepConfig(min_duration_s=1.0, trim_margin_s=0.05))
    pcm = treat(audio, 48_000, config)
    assert pcm.dtype == np.int16
    assert pcm.size == 16_000
    sounding = np.flatnonzero(pcm)
    assert sounding[-1] - sounding[0] == pytest.approx(8_000, abs=800)
    untrimmed = treat(audio, 48_000, Config(prep=PrepConfig(trim_db=0.0)))
    assert untrimmed.size == 40_000


def test_treat_scales_what_would_clip() -> None:
    audio = np.asarray(voice(0.5, level=0.2), np.float32)  # its peak is at 2
    pcm = treat(audio, RATE, Config(prep=PrepConfig(trim_db=0.0, min_duration_s=0.0)))
    assert np.abs(pcm.astype(int)).max() == 32_767
    np.testing.assert_allclose(from_int16(pcm), audio / 2, atol=1e-4)


def test_treat_brings_loudness() -> None:
    quiet, loud = (
        treat(
            np.asarray(voice(1, level=level), np.float32), RATE, Config(prep=PrepConfig(loudness_lufs=-30.0))
        )
        for level in (0.002, 0.05)
    )
    np.testing.assert_allclose(quiet, loud, atol=60)


def test_clipping_is_runs_at_full_scale() -> None:
    assert clipped_samples(np.array([0, 1, 0, -1, 0.5], np.float32)) == 0
    assert clipped_samples(np.array([0, 1, 1, 1, 0, -1, -1, 0], np.float32)) == 3
    assert clipped_samples(from_int16(np.array([32_767, 32_767], np.int16))) == 1
    assert clipped_samples(np.zeros(0, np.float32)) == 0


# Whole runs


def test_a_dataset_holds_what_the_files_hold(corpus: Path, tmp_path: Path) -> None:
    reports: list[Progress] = []
    summary = prepare(
        [corpus],
        tmp_path / "out",
        CONFIG,
        jobs=1,
        licence="CC0",
        source_note="tones",
        progress=reports.append,
    )
    dataset = Dataset.open(tmp_path / "out")
    assert (dataset.mel, dataset.prep, dataset.licence, dataset.source_note) == (
        CONFIG.mel,
        CONFIG.prep,
        "CC0",
        "tones",
    )
    assert summary.clips == dataset.n_clips == 7
    assert summary.speakers == {"ann": 4, "bob": 3}
    assert summary.splits == {split: len(dataset.clips(split)) for split in ("train", "valid", "test")}
    assert summary.splits["valid"] >= 1
    assert summary.duration_s == dataset.duration_s
    assert (summary.made_shards, summary.kept_shards) == (4, 0)
    for clip in dataset.clips():
        original, _ = soundfile.read(corpus / f"{clip.name}.wav", dtype="int16")
        np.testing.assert_array_equal(dataset.audio(clip, 0, original.size), original)
        lags = dataset.lags(clip)
        assert lags.shape == (clip.n_samples // HOP,)
        pitch_hz = 100 + 20 * int(Path(clip.name).name)
        assert np.median(lags[lags > 0]) == pytest.approx(RATE / pitch_hz, rel=0.03)
    assert [report.done for report in reports] == [0, 2, 4, 6, 7]
    assert {report.total for report in reports} == {7}
    assert set(reports[-1].figures) == {"files", "audio", "speed"}
    stored = json.loads((tmp_path / "out/dataset.json").read_text())
    assert stored["totals"]["speakers"]["bob"]["clips"] == 3
    assert str(tmp_path) not in (tmp_path / "out/dataset.json").read_text()


@pytest.mark.slow
def test_jobs_do_not_change_a_byte(corpus: Path, tmp_path: Path) -> None:
    prepare([corpus], tmp_path / "one", CONFIG, jobs=1)
    prepare([corpus], tmp_path / "two", CONFIG, jobs=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def _lose_two(out: Path) -> None:
    for name in ("dataset.json", "shard-00001.safetensors", "shard-00003.safetensors"):
        (out / name).unlink()


def _cut(out: Path) -> None:
    shard = out / "shard-00002.safetensors"
    shard.write_bytes(shard.read_bytes()[:-100])


def _flip_a_bit(out: Path) -> None:
    shard = out / "shard-00002.safetensors"
    data = bytearray(shard.read_bytes())
    data[-5_000] ^= 1
    shard.write_bytes(bytes(data))


def _leave_rubbish(out: Path) -> None:
    older = (out / "shard-00000.safetensors").read_bytes()  # of a longer run, and damaged
    (out / "shard-00004.safetensors").write_bytes(older[:-100])
    (out / ".shard-00001.123.partial.safetensors").write_bytes(b"half")
    (out / "dataset.json").unlink()


@pytest.mark.parametrize(("harm", "kept"), [(_lose_two, 2), (_cut, 3), (_flip_a_bit, 3), (_leave_rubbish, 4)])
def test_a_second_run_mends_what_is_missing(
    corpus: Path, tmp_path: Path, harm: Callable[[Path], None], kept: int
) -> None:
    out = tmp_path / "out"
    prepare([corpus], out, CONFIG, jobs=1)
    whole = contents(out)
    harm(out)
    assert contents(out) != whole
    summary = prepare([corpus], out, CONFIG, jobs=1)
    assert (summary.kept_shards, summary.made_shards) == (kept, 4 - kept)
    assert contents(out) == whole


@pytest.mark.parametrize("jobs", [1, 2])
def test_ctrl_c_leaves_whole_shards_and_the_next_run_goes_on(corpus: Path, tmp_path: Path, jobs: int) -> None:
    def interrupt(report: Progress) -> None:
        if report.done >= 4:
            raise KeyboardInterrupt

    prepare([corpus], tmp_path / "whole", CONFIG, jobs=1)
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        prepare([corpus], out, CONFIG, jobs=jobs, progress=interrupt)
    left = contents(out)
    assert {"shard-00000.safetensors", "shard-00001.safetensors"} <= set(left)
    assert all(contents(tmp_path / "whole")[name] == data for name, data in left.items())
    with pytest.raises(DatasetError, match=r"has no dataset\.json"):
        Dataset.open(out)
    summary = prepare([corpus], out, CONFIG, jobs=1)
    assert summary.kept_shards >= 2
    assert contents(out) == contents(tmp_path / "whole")


def test_an_unchanged_dataset_is_kept_whole_with_its_notes(corpus: Path, tmp_path: Path) -> None:
    prepare([corpus], tmp_path / "out", CONFIG, jobs=1, licence="CC0")
    before = contents(tmp_path / "out")
    summary = prepare([corpus], tmp_path / "out", CONFIG, jobs=1)
    assert (summary.kept_shards, summary.made_shards) == (4, 0)
    assert contents(tmp_path / "out") == before


def test_another_plan_needs_overwrite(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare([corpus], out, CONFIG, jobs=1, licence="CC0")
    before = contents(out)
    other = Config(prep=PrepConfig(min_duration_s=0.5))
    with pytest.raises(OutputError, match=r"prep\.min_duration_s 0\.25, now 0\.5.*--overwrite"):
        prepare([corpus], out, other, jobs=1)
    with pytest.raises(OutputError, match=r"other sources, or of files that have changed.*--overwrite"):
        prepare([corpus / "ann"], out, CONFIG, jobs=1)
    assert contents(out) == before
    summary = prepare([corpus], out, other, jobs=1, overwrite=True)
    assert summary.made_shards == 4
    assert Dataset.open(out).licence == ""  # the old notes spoke of the old sources
    prepare([corpus / "ann"], out, CONFIG, jobs=1, overwrite=True)
    index = f"index-{json.loads((out / 'dataset.json').read_text())['index'][:12]}.safetensors"
    assert sorted(contents(out)) == [
        "dataset.json", index, "shard-00000.safetensors", "shard-00001.safetensors",
    ]  # fmt: skip


def test_a_changed_file_redoes_its_shard_alone(corpus: Path, tmp_path: Path) -> None:
    prepare([corpus], tmp_path / "out", CONFIG, jobs=1)
    write(corpus / "bob/6.wav", voice(0.4, 300))
    with pytest.raises(OutputError, match="changed since"):
        prepare([corpus], tmp_path / "out", CONFIG, jobs=1)
    summary = prepare([corpus], tmp_path / "out", CONFIG, jobs=1, overwrite=True)
    assert (summary.kept_shards, summary.made_shards) == (3, 1)


def test_new_split_fractions_keep_the_shards(corpus: Path, tmp_path: Path) -> None:
    prepare([corpus], tmp_path / "out", CONFIG, jobs=1)
    halves = Config(prep=PrepConfig(min_duration_s=0.25, valid_fraction=0.5))
    summary = prepare([corpus], tmp_path / "out", halves, jobs=1, overwrite=True)
    assert summary.made_shards == 0
    assert Dataset.open(tmp_path / "out").prep.valid_fraction == 0.5


def test_an_unfinished_dataset_of_another_plan_is_not_replaced_unasked(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare([corpus], out, CONFIG, jobs=1)
    (out / "dataset.json").unlink()
    with pytest.raises(OutputError, match=r"unfinished dataset of other sources or settings.*--overwrite"):
        prepare([corpus], out, Config(), jobs=1)
    assert prepare([corpus], out, Config(), jobs=1, overwrite=True).made_shards == 4


def test_other_peoples_folders_are_left_alone(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.doc").touch()
    (tmp_path / "other").mkdir()
    (tmp_path / "other/dataset.json").write_text('{"format": "another program\'s"}')
    (tmp_path / "file").touch()
    for name, reason in (
        ("full", "thesis.doc"),
        ("other", "not gru-audio's"),
        ("file/out", "Not a directory"),
    ):
        with pytest.raises(OutputError, match=reason):
            prepare([corpus], tmp_path / name, CONFIG, jobs=1, overwrite=True)
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["thesis.doc"]


def test_someone_elses_files_in_a_shards_place_are_left_alone(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "shard-00000.safetensors").write_text("my notes")
    (out / "shard-notes.safetensors").write_text("more notes")
    before = contents(out)
    for overwrite in (False, True):
        with pytest.raises(OutputError, match=r"is not empty and no dataset \(it has shard-"):
            prepare([corpus], out, CONFIG, jobs=1, overwrite=overwrite)
        assert contents(out) == before


@pytest.mark.parametrize("finished", [True, False])
def test_someone_elses_files_beside_shards_are_left_alone(
    corpus: Path, tmp_path: Path, finished: bool
) -> None:
    out = tmp_path / "out"
    prepare([corpus / "ann"], out, CONFIG, jobs=1)
    if not finished:
        (out / "dataset.json").unlink()
    theirs = {"shard-notes.safetensors", "shard-00009.safetensors", ".mine.partial.txt"}
    for name in theirs:
        (out / name).write_text("notes")
    before = contents(out)
    prepare([corpus / "ann"], out, CONFIG, jobs=1)
    assert {name: data for name, data in contents(out).items() if name in theirs} == dict.fromkeys(
        theirs, b"notes"
    )
    assert contents(out).items() >= before.items()
    (out / "shard-00002.safetensors").write_text("notes")
    with pytest.raises(OutputError, match=r"shard-00002\.safetensors: not gru-audio's; choose a new folder"):
        prepare([corpus], out, CONFIG, jobs=1, overwrite=True)


def test_a_later_run_loses_no_clip(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (corpus / "ann/1.wav").write_text("words")  # shares its shard with ann/0
    out = tmp_path / "out"
    prepare([corpus], out, CONFIG, jobs=1)
    before = contents(out)

    def fail(source: Source, input_format: str | None) -> None:
        raise AudioError(f"{source.path}: ffmpeg is not on PATH")

    with monkeypatch.context() as patch:
        patch.setattr(treatment, "read_source", fail)
        summary = prepare([corpus], out, CONFIG, jobs=1)
    assert summary.clips == Dataset.open(out).n_clips == 6
    assert summary.skipped == ((str(corpus / "ann/1.wav"), "ffmpeg is not on PATH"),)
    assert contents(out) == before


def test_a_shard_gains_what_was_mended_and_keeps_the_rest(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare([corpus], tmp_path / "whole", CONFIG, jobs=1)
    read = read_source

    def fail_on(*names: str) -> Callable[..., object]:
        def read_some(source: Source, input_format: str | None) -> object:
            if source.path.stem in names:
                raise AudioError(f"{source.path}: gone")
            return read(source, input_format)

        return read_some

    monkeypatch.setattr(treatment, "read_source", fail_on("1"))
    assert prepare([corpus], tmp_path / "out", CONFIG, jobs=1).clips == 6
    monkeypatch.setattr(treatment, "read_source", fail_on("0"))
    summary = prepare([corpus], tmp_path / "out", CONFIG, jobs=1)
    assert (summary.clips, summary.skipped, summary.made_shards) == (7, (), 1)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_dataset_json_goes_with_its_shards(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    prepare([corpus], out, CONFIG, jobs=1)
    for shard in out.glob("*.safetensors"):
        shard.write_bytes(b"damaged")

    def fail(source: Source, input_format: str | None) -> None:
        raise AudioError(f"{source.path}: ffmpeg is not on PATH")

    monkeypatch.setattr(treatment, "read_source", fail)
    with pytest.raises(DatasetError, match="none of 7 files can be used"):
        prepare([corpus], out, CONFIG, jobs=1)
    assert contents(out) == {}


def test_headers_out_of_bounds_and_scarce_memory_end_no_other(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, rate in (("slow", 1), ("fast", 2**31 - 1), ("slower", 999)):
        data = (corpus / "ann/1.wav").read_bytes()
        (corpus / f"{name}.wav").write_bytes(data[:24] + struct.pack("<I", rate) + data[28:])
    write(corpus / "long.wav", 0.1 * np.ones(RATE))
    treat = treatment.treat

    def scarce(
        audio: NDArray[np.float32], sample_rate_hz: int, config: Config, *, pad_behind: bool
    ) -> NDArray[np.int16]:
        if audio.size == RATE and audio[0] == audio[-1] != 0:
            raise MemoryError
        return treat(audio, sample_rate_hz, config, pad_behind=pad_behind)

    monkeypatch.setattr(treatment, "treat", scarce)
    summary = prepare([corpus], tmp_path / "out", CONFIG, jobs=1)
    reasons = {Path(path).name: reason for path, reason in summary.skipped}
    assert set(reasons) == {"slow.wav", "fast.wav", "slower.wav", "long.wav"}
    assert summary.clips == 7
    assert reasons["long.wav"].startswith("takes more memory than there is; cut it in pieces")
    for name in ("fast", "slower"):
        assert "it must be from 1000 to 768000" in reasons[f"{name}.wav"]


def test_bad_files_are_skipped_named_and_tried_again(corpus: Path, tmp_path: Path) -> None:
    good = (corpus / "ann/1.wav").read_bytes()
    (corpus / "ann/1.wav").write_text("words")
    (corpus / "bob/5.wav").write_bytes(b"")
    write(corpus / "silent.wav", np.zeros(RATE))
    write(corpus / "nothing.wav", np.zeros(0))
    out = tmp_path / "out"
    summary = prepare([corpus], out, CONFIG, jobs=1)
    reasons = {Path(path).relative_to(corpus).as_posix(): reason for path, reason in summary.skipped}
    assert set(reasons) == {"ann/1.wav", "bob/5.wav", "silent.wav", "nothing.wav"}
    assert reasons["ann/1.wav"].startswith("libsndfile cannot read it")
    assert reasons["bob/5.wav"] == "the file is empty (0 bytes); replace it"
    assert "digital silence" in reasons["silent.wav"]
    assert "no samples" in reasons["nothing.wav"]
    assert summary.clips == Dataset.open(out).n_clips == 5
    again = prepare([corpus], out, CONFIG, jobs=1)
    assert again.skipped == summary.skipped
    assert again.made_shards < 5
    (corpus / "ann/1.wav").write_bytes(good)
    assert prepare([corpus], out, CONFIG, jobs=1, overwrite=True).clips == 6


def test_no_usable_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.wav").write_text("words")
    with pytest.raises(DatasetError, match=r"none of 1 files can be used; the first: .*a\.wav: libsndfile"):
        prepare([tmp_path / "in"], tmp_path / "out", CONFIG, jobs=1)
    assert not (tmp_path / "out").exists()


def test_clipping_and_duplicates_are_found(corpus: Path, tmp_path: Path) -> None:
    write(corpus / "loud.wav", np.clip(voice(0.3, level=0.5), -1, 1))
    shutil.copy(corpus / "ann/0.wav", corpus / "bob/copy.wav")
    summary = prepare([corpus], tmp_path / "out", CONFIG, jobs=1)
    assert summary.clipped == ("loud",)
    assert summary.duplicates == (("ann/0", "bob/copy"),)


def test_a_full_disk_is_one_line(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match=r"shard-00000\.safetensors: cannot be written: No space left"):
        prepare([corpus], tmp_path / "out", CONFIG, jobs=1)
    assert not (tmp_path / "out").exists()


def killed(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.filterwarnings("ignore:A worker stopped:UserWarning")
def test_processes_work_in_the_callers_folder_whatever_it_was_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a notebook that changes its folder: the processes of a call do the work of the next."""
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        found = list(map_in_order(os.path.abspath, ["a", "b"], jobs=2))
        assert found == [str(tmp_path / name / "a"), str(tmp_path / name / "b")]


def test_a_killed_worker_is_one_line() -> None:
    with pytest.raises(GruAudioError, match=r"a worker process died.*fewer --jobs"):
        list(map_in_order(killed, [1, 1, 1], jobs=2))


def test_loading_does_not_need_torch(corpus: Path, tmp_path: Path) -> None:
    prepare([corpus], tmp_path / "out", CONFIG, jobs=1)
    code = (
        "import sys; from gru_audio.data.dataset import Dataset; import gru_audio.signal.audio, gru_audio.data.prepare;"
        f"d = Dataset.open({str(tmp_path / 'out')!r}); d.audio(d.clips()[0]);"
        "print(sorted({'torch', 'librosa', 'scipy', 'numba'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# The dry run and the command


def test_survey_reports_and_writes_nothing(corpus: Path, tmp_path: Path) -> None:
    write(corpus / "short.flac", voice(0.1, rate=8_000), 8_000)
    write(corpus / "loud.wav", np.clip(voice(0.3, level=0.5), -1, 1))
    shutil.copy(corpus / "ann/0.wav", corpus / "copy.wav")
    (corpus / "bad.wav").write_text("words")
    (corpus / "notes.txt").touch()
    before = sorted(tmp_path.rglob("*"))
    found = survey([corpus], CONFIG, jobs=1)
    assert sorted(tmp_path.rglob("*")) == before
    assert (found.files, found.padded, found.ignored) == (10, 1, 1)
    assert found.duration_s == pytest.approx(9 * 0.3 + 0.1, abs=0.01)
    assert found.sample_rates_hz == {8_000: 1, 16_000: 9}
    assert found.formats == {".flac": 1, ".wav": 9}
    assert found.clipped == (str(corpus / "loud.wav"),)
    assert found.duplicates == ((str(corpus / "ann/0.wav"), str(corpus / "copy.wav")),) or set(
        found.duplicates[0]
    ) == {str(corpus / "ann/0.wav"), str(corpus / "copy.wav")}
    assert [path for path, _ in found.unusable] == [str(corpus / "bad.wav")]
    prepare([corpus], tmp_path / "out", CONFIG, jobs=1)
    taken = sum(path.stat().st_size for path in (tmp_path / "out").glob("*.safetensors"))
    assert taken * 0.9 < found.disk_bytes < taken * 1.2


def run(*arguments: str | Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["prep", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def test_command_makes_a_dataset(corpus: Path, tmp_path: Path) -> None:
    code, out, err = run(corpus, "-o", tmp_path / "out", "-j", "1", "-c", "tiny", "--licence", "CC0")
    assert code == 0
    assert "7 (train" in out
    assert err == ""
    assert Dataset.open(tmp_path / "out").licence == "CC0"


def test_command_prints_strict_json_and_names_skipped_files(corpus: Path, tmp_path: Path) -> None:
    (corpus / "bad.wav").write_text("words")
    code, out, err = run(corpus, "-o", tmp_path / "out", "-j", "1", "-c", "tiny", "--json", "--quiet")
    assert code == 1
    summary = json.loads(out)
    assert set(summary) == {"dataset"} | {field.name for field in dataclasses.fields(Summary)}
    assert summary["clips"] == 7
    assert err.count("\n") == 1
    assert err.startswith(f"error: {corpus / 'bad.wav'}: libsndfile cannot read it")


def test_command_dry_run(corpus: Path, tmp_path: Path) -> None:
    code, out, _ = run(corpus, "--dry-run", "-j", "1", "--set", "prep.min_duration_s=0.5")
    assert code == 0
    assert "7 shorter than" in out
    code, out, _ = run(corpus, "--dry-run", "-j", "1", "--json")
    assert json.loads(out)["sample_rates_hz"] == {"16000": 7}
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


def test_command_takes_listings_rules_for_speakers_and_additions(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("corpus/ann/0.wav|zoe|words here\ncorpus/bob/4.wav|yan|more words\n")
    out = tmp_path / "out"
    code, text, err = run("--manifest", tmp_path / "train.csv", "-o", out, "-j", "1", "-c", "tiny")
    assert code == 0
    assert "2 (yan, zoe)" in text
    assert "audio in column 1, speaker in column 2, without a line of names" in err
    code, text, _ = run(
        corpus, "-o", out, "--append", "-j", "1", "-c", "tiny", "--speaker-level", "0", "--json"
    )
    assert (code, json.loads(text)["speakers"]) == (0, {"corpus": 7, "yan": 1, "zoe": 1})
    code, text, _ = run(corpus, "--dry-run", "-j", "1", "--speaker-pattern", "(.)/")
    assert code == 0
    assert "2: b 0.0 min, n 0.0 min" in text


def test_command_says_what_training_would(corpus: Path, tmp_path: Path) -> None:
    alone = corpus / "ann/0.wav"
    for arguments in ((alone, "-o", tmp_path / "out"), (alone, "--dry-run")):
        code, _, err = run(*arguments, "-j", "1", "-c", "tiny")
        assert code == 0
        assert err.startswith("warning: the split 'valid' is empty, so that training will refuse the dataset")


def test_command_usage_errors(corpus: Path) -> None:
    assert run(corpus, "-o", "x", "--append", "--overwrite")[0] == 2
    assert run(corpus, "-o", "x", "--speaker-level", "1", "--speaker-pattern", "(a)")[0] == 2
    assert run("-o", "x")[0] == 2
    assert run(corpus)[0] == 2
    assert run()[0] == 2
    assert run(corpus, "-o", "x", "--jobs", "0")[0] == 2


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not on PATH; it writes and reads G.722")
def test_command_reads_g722(corpus: Path, tmp_path: Path) -> None:
    for file in sorted(corpus.rglob("*.wav")):
        command = ["ffmpeg", "-v", "error", "-i", str(file), str(file.with_suffix(".g722"))]
        subprocess.run(command, check=True)
        file.unlink()
    code, _, _ = run(corpus, "-o", tmp_path / "out", "--input-format", "g722", "-j", "1")
    assert code == 0
    dataset = Dataset.open(tmp_path / "out")
    assert dataset.n_clips == 7
    original = to_int16(np.asarray(voice(0.3), np.float32))
    got = next(dataset.audio(clip) for clip in dataset.clips() if clip.name == "ann/1").astype(float)
    middle = got[(got.size - original.size) // 2 :][
        : original.size
    ]  # padded at both ends, delayed by the codec
    assert np.sqrt(np.mean(np.square(middle))) == pytest.approx(
        np.sqrt(np.mean(original.astype(float) ** 2)), rel=0.1
    )
