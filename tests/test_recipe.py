"""The bundled voice's recipe: what it gathers, that it goes on where it was, and the voice that it makes."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from trained import make_dataset, run_to_end

from gru_audio.audio import read_audio, write_audio
from gru_audio.config import load_config
from gru_audio.voice import load_voice

RECIPE = Path(__file__).parent.parent / "recipes" / "debian-voices"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"recipe_{name}", RECIPE / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(
        spec
    )  # known to no process by name: functions go to others as code
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def prepare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """With two packages of ours in place of Debian's."""
    module, rng = script("prepare"), np.random.default_rng(0)
    for name in ("one/hello", "one/digits/1", "one/silence/1", "one/beep", "two/good", "two/bye"):
        path = tmp_path / "packages" / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_audio(path, rng.uniform(-0.5, 0.5, 800).astype(np.float32), 16_000)
    (tmp_path / "packages/one/empty.wav").touch()
    voices = [
        module.Voice(name, f"package-{name}", tmp_path / "packages" / name, ".wav") for name in ("one", "two")
    ]
    monkeypatch.setattr(module, "VOICES", voices)
    monkeypatch.setattr(sys, "argv", ["prepare.py", str(tmp_path / "corpus")])
    return module


def gathered(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_it_gathers_speech(prepare: ModuleType, tmp_path: Path) -> None:
    """Not silence, tones or empty files; a folder for each speaker, and the same samples."""
    prepare.main()
    corpus = tmp_path / "corpus"
    assert gathered(corpus) == ["one/digits/1.flac", "one/hello.flac", "two/bye.flac", "two/good.flac"]
    made, rate_hz = read_audio(corpus / "one/digits/1.flac")
    given, given_hz = read_audio(tmp_path / "packages/one/digits/1.wav")
    assert rate_hz == given_hz
    np.testing.assert_array_equal(made, given)


def test_it_goes_on(prepare: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepare.main()
    kept, gone = tmp_path / "corpus/two/good.flac", tmp_path / "corpus/two/bye.flac"
    gone.unlink()
    before = kept.stat().st_mtime_ns
    capsys.readouterr()
    prepare.main()
    assert "two: 2 clips, 1 there already" in capsys.readouterr().out
    assert gone.exists()
    assert kept.stat().st_mtime_ns == before


def test_a_missing_package_is_named(
    prepare: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = prepare.Voice("three", "package-three", tmp_path / "nowhere", ".wav")
    monkeypatch.setattr(prepare, "VOICES", [*prepare.VOICES, missing])
    with pytest.raises(SystemExit, match="apt-get install package-three"):
        prepare.main()
    assert not (tmp_path / "corpus").exists(), "found out before the first file is made"


def test_its_plan_is_a_valid_one() -> None:
    config = load_config(RECIPE / "voice.toml")
    train = config.train
    assert train.pitch_handover_step < train.sparsify_start_step < train.sparsify_end_step < train.steps
    assert config.model.is_pruned


FIGURES = {"pesq": {"mean": 3.333, "worst": 3.06}, "estoi": {"mean": 0.9673}}


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    run_to_end(make_dataset(tmp_path, 90, 100, 110, 120), tmp_path / "run", "train.steps=1")
    paths = [str(tmp_path / name) for name in ("run", "evaluation.json", "voice.safetensors")]
    monkeypatch.setattr(sys, "argv", ["bundle.py", *paths])
    return script("bundle")


def test_the_bundled_voice_tells_what_it_is(bundle: ModuleType, tmp_path: Path) -> None:
    evaluation = {"summary": {"voice": FIGURES}, "clips": [{"name": "a"}, {"name": "b"}, {"name": "b"}]}
    (tmp_path / "evaluation.json").write_text(json.dumps(evaluation))
    bundle.main()
    voice, trained = load_voice(tmp_path / "voice.safetensors"), load_voice(tmp_path / "run")
    card = voice.metadata["card"]
    assert (
        card["metrics"] == "means of 2 held-out clips, free-running: PESQ 3.33, ESTOI 0.967; worst PESQ 3.06"
    )
    assert "Allison Smith" in card["attribution"]
    assert voice.config == trained.config
    assert (tmp_path / "voice.safetensors").stat().st_size < 0.7 * (
        tmp_path / "run/voice.safetensors"
    ).stat().st_size
    for name, tensor in trained.tensors.items():
        np.testing.assert_allclose(voice.tensors[name], tensor, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("text", ["", "{}", '{"summary": {"voice": {}}, "clips": []}', "[1]"])
def test_a_bad_evaluation_is_named(bundle: ModuleType, tmp_path: Path, text: str) -> None:
    (tmp_path / "evaluation.json").write_text(text)
    with pytest.raises(SystemExit, match=r"error: .*evaluation\.json: not what `gru-audio evaluate"):
        bundle.main()
    assert not (tmp_path / "voice.safetensors").exists()
