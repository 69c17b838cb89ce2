"""What `info` tells of voices, checkpoints, runs, datasets, mels and audio."""

import json
import os
import shutil
import subprocess
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import typer
from safetensors import safe_open
from safetensors.numpy import save_file
from typer.testing import CliRunner

from gru_audio.cli.info import info as info_command
from gru_audio.config import MEL_PRESETS, Config, MelConfig, SignalConfig, TrainConfig, to_toml
from gru_audio.data.prepare import prepare
from gru_audio.errors import AudioError, CheckpointError, DatasetError, GruAudioError, MelError
from gru_audio.inspection.describe import describe
from gru_audio.inspection.facts import (
    AudioFileFacts,
    CheckpointFacts,
    DatasetFacts,
    MelFileFacts,
    RunFacts,
    SplitFacts,
    VoiceFacts,
)
from gru_audio.voice.run_folder import VOICE_FILE
from gru_audio.voice.tensor_file import write_tensor_file
from gru_audio.voice.voice import Voice, save_voice

# 3 * 5 + 7 = 22 learned numbers, and two buffers.
TENSORS = {
    "cell.weight": np.zeros((3, 5), np.float32),
    "cell.bias": np.zeros(7, np.float32),
    "mel_mean": np.zeros(80, np.float32),
    "mel_std": np.ones(80, np.float32),
}
METADATA = {
    "steps": 1200,
    "validation": {"bits": 4.25, "pitch_cents": 30.0},
    "dataset": "mine",
    "training_hours": 2.5,
    "speakers": ["ann", "bob"],
    "licence": "CC0,\nby ann and bob",
    "source_note": "recorded\x1b[31m at home",
}


def told(path: Path) -> dict[str, str]:
    """The rows that the command prints in a pipe."""
    rows = (line.strip().split("  ", 1) for line in invoke(path).stdout.splitlines())
    return {name: value.strip() for name, value in rows}


def told_in_json(path: Path) -> Any:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(invoke(path, "--json").stdout, parse_constant=refuse)


def invoke(path: Path, *options: str) -> Any:
    app = typer.Typer()
    app.command()(info_command)
    result = CliRunner().invoke(app, [str(path), *options], catch_exceptions=False)
    assert result.exit_code == 0
    return result


@pytest.fixture
def voice(tmp_path: Path) -> Path:
    path = tmp_path / "a.safetensors"
    save_voice(path, Voice(Config(signal=SignalConfig(bits=7, lpc_order=0)), TENSORS, METADATA))
    return path


def write_checkpoint(path: Path, step: int, **changes: object) -> Path:
    document = {"step": step, "config": Config().model_dump(), "best_bits": 4.5, **changes}
    groups = {
        f"{group}/{name}": t for group in ("network", "average", "optimizer") for name, t in TENSORS.items()
    }
    write_tensor_file(path, "checkpoint", document, groups)
    return path


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    t = np.arange(24_000) / 16_000
    for speaker, name in (("ann", "a1"), ("ann", "a2"), ("bob", "b1")):
        (folder / "in" / speaker).mkdir(parents=True, exist_ok=True)
        pitch_hz = 100 + 10 * int(name[1]) + 50 * (speaker == "bob")
        soundfile.write(
            folder / "in" / speaker / f"{name}.wav", 0.3 * np.sin(2 * np.pi * pitch_hz * t), 16_000
        )
    settings = Config().model_copy(update={"prep": Config().prep.model_copy(update={"trim_db": 0.0})})
    prepare([folder / "in"], folder / "out", settings, jobs=1, licence="CC0", source_note="tones")
    return folder / "out"


# Voices and checkpoints


def test_a_voice(voice: Path) -> None:
    facts = describe(voice)
    assert isinstance(facts, VoiceFacts)
    assert facts.network.parameters == 22
    assert facts.network.settings == Config().model.model_dump()
    assert (facts.network.bits, facts.network.lpc_order) == (7, 0)
    assert facts.mel.preset == "speech-16k"
    assert MelConfig(**facts.mel.settings) == MelConfig()
    assert (facts.steps, facts.training_hours, facts.speakers) == (1200, 2.5, ["ann", "bob"])
    assert facts.validation == METADATA["validation"]
    assert facts.file_bytes == voice.stat().st_size


def test_a_voice_in_rows(voice: Path) -> None:
    rows = told(voice)
    assert rows["what"] == f"voice {voice}"
    assert rows["parameters"] == "22"
    assert rows["signal"] == "LPC order 0, 7-bit mu-law"
    assert rows["mel"].startswith("speech-16k: 16000 Hz, 80 bands of 0 to 8000 Hz")
    assert "gru_size 384" in rows["network"]
    assert "samples_per_step 1" in rows["network"]
    assert rows["trained"] == "1,200 steps"
    assert rows["validation"] == "bits 4.25, pitch_cents 30"
    assert rows["audio"] == "2.50 h"
    assert rows["speakers"] == "ann, bob"


def test_text_from_a_file_stays_on_its_line_and_moves_no_cursor(voice: Path) -> None:
    rows = told(voice)
    assert rows["licence"] == "CC0, by ann and bob"
    assert rows["source"] == "recorded\\x1b[31m at home"


def test_a_voice_in_json(voice: Path) -> None:
    said = told_in_json(voice)
    assert next(iter(said)) == "kind"
    assert said["kind"] == "voice"
    assert said == json.loads(json.dumps(asdict(describe(voice))))  # JSON has lists for tuples
    assert said["licence"] == METADATA["licence"]


def test_a_voice_of_which_nothing_is_told(tmp_path: Path) -> None:
    save_voice(tmp_path / "a.safetensors", Voice(Config(), TENSORS))
    facts = describe(tmp_path / "a.safetensors")
    assert isinstance(facts, VoiceFacts)
    assert (facts.steps, facts.training_hours, facts.speakers, facts.validation) == (None, None, [], {})
    rows = told(tmp_path / "a.safetensors")
    assert rows["licence"] == "not stated"
    assert not {"trained", "validation", "audio", "speakers", "source", "dataset"} & set(rows)


@pytest.mark.parametrize("preset", sorted(MEL_PRESETS))
def test_a_contract_goes_by_its_presets_name(preset: str, tmp_path: Path) -> None:
    train = TrainConfig(crop_samples=8 * MEL_PRESETS[preset].hop_samples)
    config = Config(mel=MEL_PRESETS[preset], train=train)
    save_voice(tmp_path / "a.safetensors", Voice(config, TENSORS))
    assert describe(tmp_path / "a.safetensors").mel.preset == preset  # type: ignore[union-attr]


def test_a_contract_of_its_own(tmp_path: Path) -> None:
    config = Config().model_copy(update={"mel": MelConfig(n_mels=64)})
    save_voice(tmp_path / "a.safetensors", Voice(config, TENSORS))
    assert told(tmp_path / "a.safetensors")["mel"].startswith("a contract of its own: 16000 Hz, 64 bands")
    assert told_in_json(tmp_path / "a.safetensors")["mel"]["preset"] is None


def test_a_checkpoint(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "c.safetensors", 40)
    facts = describe(path)
    assert isinstance(facts, CheckpointFacts)
    assert (facts.step, facts.steps, facts.best_bits) == (40, 100_000, 4.5)
    assert facts.parts == ["average", "network", "optimizer"]
    assert facts.network.parameters == 22
    rows = told(path)
    assert rows["step"] == "40 of 100,000"
    assert rows["best"] == "4.500 bits a sample"
    assert rows["holds"] == "average, network, optimizer"
    assert told_in_json(path)["kind"] == "checkpoint"


def test_a_checkpoint_before_the_first_validation(tmp_path: Path) -> None:
    assert told(write_checkpoint(tmp_path / "c.safetensors", 1, best_bits=None))["best"] == "none yet"


def flip(path: Path, place: int) -> None:
    """Change a bit of a file, counted from its end."""
    damaged = bytearray(path.read_bytes())
    damaged[-place] ^= 1
    path.write_bytes(damaged)


@pytest.mark.parametrize("place", [1, 40, 300])
def test_voices_and_checkpoints_are_compared_with_their_digests(
    place: int, voice: Path, tmp_path: Path
) -> None:
    checkpoint = write_checkpoint(tmp_path / "c.safetensors", 40)
    for path in (voice, checkpoint):
        assert told(path)["digest"] == "matches"
        assert told_in_json(path)["has_digest"] is True
        flip(path, place)
        with pytest.raises(CheckpointError, match=r"damaged: .* digest; copy it again"):
            describe(path)


def without_digest(path: Path, **changes: object) -> None:
    """Make a file as an older version wrote it."""
    with safe_open(path, framework="numpy") as file:
        document = json.loads(file.metadata()["gru_audio"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    del document["digest"]
    save_file(tensors, path, {"gru_audio": json.dumps({**document, **changes})})


def test_files_of_older_versions(voice: Path, tmp_path: Path) -> None:
    without_digest(voice)
    assert told(voice)["digest"].startswith("none: an older version wrote the file")
    assert told_in_json(voice)["has_digest"] is False
    checkpoint = write_checkpoint(tmp_path / "c.safetensors", 40)
    with safe_open(checkpoint, framework="numpy") as file:
        names = sorted(file.keys())
        checksum = zlib.crc32(b"".join(file.get_tensor(name).tobytes() for name in names))
    without_digest(checkpoint, crc32=checksum)
    assert told(checkpoint)["digest"] == "matches"
    without_crc = write_checkpoint(tmp_path / "d.safetensors", 40)
    without_digest(without_crc, crc32=checksum ^ 1)
    with pytest.raises(CheckpointError, match=r"damaged: .* checksum; copy it again"):
        describe(without_crc)


# Runs


def make_run(folder: Path, log: str, steps: tuple[int, ...] = (), voice: bool = False) -> Path:
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.toml").write_text(to_toml(Config()))
    (folder / "metrics.jsonl").write_text(log)
    for step in steps:
        write_checkpoint(folder / f"checkpoints/step-{step:09d}.safetensors", step)
    if voice:
        save_voice(folder / VOICE_FILE, Voice(Config(), TENSORS, METADATA))
    return folder


LOG = """{"step": 0, "group": "valid", "bits": 1.0}
{"step": 10, "group": "train", "bits": 0.5}
{"step": 20, "group": "valid", "bits": 5.25}
{"step": 30, "group": "valid", "bits": 5.5}
{"step": 40, "group": "valid", "pitch_loss": 2.0}
{"step": 50, "group": "train", "bi"""


def test_a_run(tmp_path: Path) -> None:
    facts = describe(make_run(tmp_path / "run", LOG, (20, 45), voice=True))
    assert isinstance(facts, RunFacts)
    assert (facts.step, facts.steps, facts.checkpoints) == (45, 100_000, [20, 45])
    assert (facts.last_bits, facts.last_bits_step) == (5.5, 30)
    assert (facts.best_bits, facts.best_bits_step) == (5.25, 20)  # step 0 has no voice
    assert facts.voice is not None
    rows = told(tmp_path / "run")
    assert rows["step"] == "45 of 100,000"
    assert rows["best"] == "5.250 bits a sample at step 20"
    assert rows["last"] == "5.500 bits a sample at step 30"
    assert rows["checkpoints"] == "step 45, step 20"
    assert rows["licence"] == "CC0, by ann and bob"
    assert told_in_json(tmp_path / "run")["voice"]["kind"] == "voice"


def test_a_run_that_has_only_begun(tmp_path: Path) -> None:
    facts = describe(make_run(tmp_path / "run", ""))
    assert isinstance(facts, RunFacts)
    assert (facts.step, facts.last_bits, facts.best_bits, facts.checkpoints) == (0, None, None, [])
    assert told(tmp_path / "run")["voice"] == "none yet; the first validation writes it"
    assert told_in_json(tmp_path / "run")["voice"] is None


def test_a_runs_checkpoints_are_compared_when_that_is_asked_for(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", LOG, (20, 45), voice=True)
    rows = {line.split("  ")[0]: line for line in invoke(run, "--verify").stdout.splitlines()}
    assert "the checkpoints match their digests" in rows["compared"]
    assert "compared" not in told(run)
    flip(run / "checkpoints/step-000000020.safetensors", 9)
    assert describe(run)
    with pytest.raises(CheckpointError, match=r"step-000000020\.safetensors: damaged: .*; copy it again"):
        describe(run, verify=True)
    flip(run / VOICE_FILE, 9)
    with pytest.raises(CheckpointError, match=r"voice\.safetensors: damaged"):
        describe(run)


# Datasets


def test_a_datasets_shards_are_compared_when_that_is_asked_for(dataset: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(dataset, copy)
    assert told(copy)["digest"].startswith("the index matches; 1 shard not compared (--verify compares")
    assert "the index and 1 shard match" in invoke(copy, "--verify").stdout
    assert json.loads(invoke(copy, "--verify", "--json").stdout)["verified"] is True
    shard, index = next(copy.glob("shard-*")), next(copy.glob("index-*"))
    flip(shard, 9)
    assert describe(copy)
    with pytest.raises(DatasetError, match=r"digest.*; run the same gru-audio prep again"):
        describe(copy, verify=True)
    flip(index, 9)
    with pytest.raises(DatasetError, match="its contents do not match their digest"):
        describe(copy)


def test_a_dataset(dataset: Path) -> None:
    facts = describe(dataset)
    assert isinstance(facts, DatasetFacts)
    assert facts.version == 2
    assert facts.total == SplitFacts(3, 4.5 / 3600)
    assert sum(split.clips for split in facts.splits.values()) == 3
    assert facts.speakers == {"ann": SplitFacts(2, 3.0 / 3600), "bob": SplitFacts(1, 1.5 / 3600)}
    assert (facts.licence, facts.source_note, facts.prep["trim_db"]) == ("CC0", "tones", 0.0)
    assert facts.disk_bytes > 3 * 48_000


def test_a_dataset_in_rows(dataset: Path) -> None:
    rows = told(dataset)
    assert rows["audio"] == "3 clips, 4.50 s"
    assert rows["speakers"] == "ann 0.1 min, bob 0.0 min"
    assert {"train", "valid", "test"} <= set(rows)
    assert rows["prep"].startswith("trim_db 0,")
    assert told_in_json(dataset)["speakers"]["bob"]["clips"] == 1


def test_an_unfinished_dataset(dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "shard-00000.safetensors").write_bytes((dataset / "shard-00000.safetensors").read_bytes())
    with pytest.raises(DatasetError, match="unfinished dataset; run the same gru-audio prep again"):
        describe(tmp_path)


# Mels and audio


def test_a_mel_without_a_contract(tmp_path: Path) -> None:
    mel = np.arange(240, dtype=np.float32).reshape(3, 80)
    np.save(tmp_path / "a.npy", mel)
    facts = describe(tmp_path / "a.npy")
    assert isinstance(facts, MelFileFacts)
    assert (facts.n_frames, facts.n_mels, facts.duration_s, facts.mel) == (3, 80, None, None)
    assert (facts.level_min, facts.level_mean, facts.level_max) == (0.0, 119.5, 239.0)
    rows = told(tmp_path / "a.npy")
    assert rows["size"] == "3 frames of 80 bands"
    assert rows["mel"] == "states no contract"
    assert told_in_json(tmp_path / "a.npy")["duration_s"] is None


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_a_mel_that_states_its_contract(suffix: str, tmp_path: Path) -> None:
    contract, path = MEL_PRESETS["hifigan-22k"], tmp_path / f"a{suffix}"
    mel, stated = np.full((100, 80), -2.0, np.float32), json.dumps(contract.model_dump())
    if suffix == ".npz":
        np.savez(path, mel=mel, mel_config=np.array(stated))
    else:
        save_file({"mel": mel}, path, {"mel_config": stated})
    facts = describe(path)
    assert isinstance(facts, MelFileFacts)
    assert facts.duration_s == pytest.approx(100 * 256 / 22_050)
    assert facts.mel is not None
    assert facts.mel.preset == "hifigan-22k"
    assert told(path)["size"] == "100 frames of 80 bands, 1.16 s"


def test_audio(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros((8_000, 2), np.float32), 16_000, subtype="FLOAT")
    soundfile.write(tmp_path / "b.wav", np.array([1.0, 0.25, -1.0, 0.0]), 16_000, subtype="PCM_16")
    facts = describe(path)
    assert isinstance(facts, AudioFileFacts)
    assert (facts.format, facts.n_channels, facts.sample_rate_hz, facts.duration_s) == (
        "WAV FLOAT",
        2,
        16_000,
        0.5,
    )
    assert facts.peak_dbfs is None
    assert told(path)["level"] == "silent"
    assert told(tmp_path / "b.wav")["clipped"] == "2 samples"


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not on PATH; it writes the stream")
def test_a_streamed_flac(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", 0.1 * np.ones(16_000), 16_000)
    command = ["ffmpeg", "-v", "error", "-i", str(tmp_path / "a.wav"), "-f", "flac", "-"]
    (tmp_path / "a.flac").write_bytes(subprocess.run(command, check=True, capture_output=True).stdout)
    assert told(tmp_path / "a.flac")["audio"] == "1.00 s, 16000 Hz, mono"


def test_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.wav")
    soundfile.write(tmp_path / "a.wav", np.ones((16_000, 2)), 16_000)
    (tmp_path / "a.wav").rename(path)
    assert told(path)["audio"] == "1.00 s, 16000 Hz, 2 channels"
    facts = told_in_json(path)
    assert (facts["path"], facts["format"]) == (f"{tmp_path}/caf\\xe9.wav", "WAV PCM_16")


def test_quiet_changes_nothing_as_there_are_no_notes(voice: Path) -> None:
    for options in ((), ("--json",)):
        assert invoke(voice, "--quiet", *options).stdout == invoke(voice, *options).stdout


def test_someone_elses_shard_files_are_no_dataset(tmp_path: Path) -> None:
    (tmp_path / "shard-00000.safetensors").write_text("my notes")
    with pytest.raises(GruAudioError, match="neither a dataset"):
        describe(tmp_path)


# What it is not


def test_what_is_not_known(tmp_path: Path, dataset: Path) -> None:
    (tmp_path / "a.txt").write_text("words")
    (tmp_path / "a.safetensors").write_bytes(b"words")
    (tmp_path / "a.npy").write_bytes(b"words")
    (tmp_path / "empty").mkdir()
    for name, kind, says in (
        ("gone", GruAudioError, "no such file or folder; check the path"),
        ("empty", GruAudioError, "neither a dataset"),
        ("a.txt", AudioError, "neither audio nor a mel"),
        ("a.safetensors", CheckpointError, "not a safetensors file"),
        ("a.npy", MelError, "cannot be read as .npy"),
    ):
        with pytest.raises(kind, match=says):
            describe(tmp_path / name)
    with pytest.raises(DatasetError, match="a dataset's shard; name its folder"):
        describe(dataset / "shard-00000.safetensors")


def test_a_file_of_another_kind_or_damaged_inside(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_tensor_file(path, "flute", {}, TENSORS)
    with pytest.raises(CheckpointError, match="a flute, which this gru-audio does not know; upgrade it"):
        describe(path)
    write_tensor_file(
        path, "voice", {"config": Config().model_dump(), "metadata": {"steps": "many"}}, TENSORS
    )
    with pytest.raises(CheckpointError, match=r"damaged: .*; copy it again"):
        describe(path)


# In a terminal


def test_a_table_in_a_terminal(voice: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "60")
    said = invoke(voice).stdout
    assert "\x1b[1mparameters" in said
    monkeypatch.setenv("NO_COLOR", "1")
    assert max(len(line) for line in told(voice).values()) > 60  # a pipe's lines are not wrapped
