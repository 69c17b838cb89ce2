"""`gru-audio mel`: every format and layout, contracts by name and of a voice, and what is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from gru_audio.cli import main, make_app
from gru_audio.config import MEL_PRESETS, MelConfig
from gru_audio.errors import OutputError
from gru_audio.signal.audio import resample
from gru_audio.signal.mel import log_mel
from gru_audio.signal.mel_file import read_mel
from gru_audio.signal.mel_making import plan_mels

RATE_HZ = 16_000


@pytest.fixture
def speech_folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in ("a.wav", "deeper/b.flac"):
        path = tmp_path / "speech" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.1 * rng.standard_normal(7_000), RATE_HZ)
    return tmp_path / "speech"


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(make_app(["mel", "info"]), ["mel", *map(str, arguments), "--jobs", "1"])
    return result.exit_code, result.output


@pytest.mark.parametrize("suffix", ["npz", "npy", "pt", "safetensors"])
@pytest.mark.parametrize("layout", ["frames", "bands"])
def test_formats_and_layouts(speech_folder: Path, tmp_path: Path, suffix: str, layout: str) -> None:
    out = tmp_path / "mels"
    code, _ = run(
        speech_folder, "-o", out, "--mel", "hifigan-22k", "--format", suffix, "--layout", layout, "--json"
    )
    assert code == 0
    contract = MEL_PRESETS["hifigan-22k"]
    audio, _ = soundfile.read(speech_folder / "deeper/b.flac", dtype="float32")
    samples = resample(audio, RATE_HZ, 22_050)
    expected = log_mel(np.pad(samples, (0, -samples.size % 256)), contract)

    mel, stated = read_mel(out / f"deeper/b.{suffix}")
    np.testing.assert_array_equal(mel, expected)
    assert stated == (contract if suffix in ("npz", "safetensors") else None)
    if suffix == "npy":
        shape = np.load(out / "a.npy").shape
        assert shape[0 if layout == "bands" else 1] == 80


def test_a_voices_contract_and_json(speech_folder: Path, tmp_path: Path) -> None:
    code, output = run(speech_folder / "a.wav", "-o", tmp_path / "mels", "--voice", "debian-16k", "--json")
    told = json.loads(output)
    assert code == 0
    assert MelConfig.model_validate(told["mel"]) == MelConfig()
    assert told["files"] == [
        {
            "input": str(speech_folder / "a.wav"),
            "output": str(tmp_path / "mels/a.npz"),
            "n_frames": 35,
            "error": None,
        }
    ]


def test_a_bad_file_is_named_and_the_rest_goes_on(speech_folder: Path, tmp_path: Path) -> None:
    (speech_folder / "bad.wav").write_text("no audio")
    code, output = run(speech_folder, "-o", tmp_path / "mels", "--mel", "log=log10")
    assert code == 1
    assert "error: " in output
    assert "bad.wav" in output
    assert "2 mels" in output
    assert read_mel(tmp_path / "mels/a.npz")[1] == MelConfig(log="log10")


def test_a_file_without_a_sample_at_the_contracts_rate_is_named(tmp_path: Path) -> None:
    """It became a mel without frames, which synthesize refuses."""
    soundfile.write(tmp_path / "one.wav", np.full(1, 0.1), 48_000)
    code, output = run(tmp_path / "one.wav", "-o", tmp_path / "mels", "--mel", "speech-16k")
    assert code == 1
    assert "one.wav: its 1 samples at 48000 Hz are none at 16000 Hz; replace it, or leave it out" in output
    assert not list((tmp_path / "mels").glob("*.npz"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("speech -o mels --mel hifi", "mel contract 'hifi' is not known"),
        ("nothing -o mels --mel hifigan-22k", "nothing: no such file or folder"),
        ("empty -o mels --mel hifigan-22k", "empty: holds no audio"),
        ("speech/a.wav twice/a.flac -o mels --mel hifigan-22k", "would both be written there"),
    ],
)
def test_mistakes_are_one_line(
    speech_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: str,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "twice").mkdir()
    soundfile.write(tmp_path / "twice/a.flac", np.zeros(800), RATE_HZ)
    monkeypatch.setattr("sys.argv", ["gru-audio", "mel", *arguments.split()])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 1
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1


def test_one_contract_is_needed(speech_folder: Path, tmp_path: Path) -> None:
    assert run(speech_folder, "-o", tmp_path / "mels")[0] == 2
    assert (
        run(speech_folder, "-o", tmp_path / "mels", "--mel", "hifigan-22k", "--voice", "debian-16k")[0] == 2
    )


def test_targets_are_told_apart_through_links(speech_folder: Path, tmp_path: Path) -> None:
    """Two names of one folder under the output: the second file would be written over the first."""
    (tmp_path / "in").mkdir()
    for name in ("x", "y"):
        shutil.copytree(speech_folder, tmp_path / "in" / name)
    (tmp_path / "mels/x").mkdir(parents=True)
    (tmp_path / "mels/y").symlink_to("x")
    with pytest.raises(
        OutputError, match=r"mels/y/a\.npz: .*x/a\.wav and .*y/a\.wav would both be written there"
    ):
        plan_mels([tmp_path / "in"], tmp_path / "mels", ".npz", MelConfig())
