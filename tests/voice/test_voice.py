"""Voices: one file with all that synthesis needs."""

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from support.documents import document_of

import gru_audio
from gru_audio.config import Config, MelConfig, ModelConfig, TrainConfig, config_from_dict
from gru_audio.errors import CheckpointError, ConfigError
from gru_audio.network.model import Network
from gru_audio.synthesis.engines import ENGINES
from gru_audio.synthesis.vocoder import Vocoder
from gru_audio.voice.bundled import DEFAULT_VOICE, bundled_voices, voice_path
from gru_audio.voice.run_folder import VOICE_FILE
from gru_audio.voice.tensor_file import write_tensor_file
from gru_audio.voice.voice import Voice, in_half_precision, load_voice, save_voice

CONFIG = Config(
    mel=MelConfig(
        sample_rate_hz=8_000, n_fft=256, window_samples=200, hop_samples=64, n_mels=20, f_max_hz=4_000.0
    ),
    model=ModelConfig(gru_size=16, conditioning_size=16, readout_size=16, pitch_size=16),
    train=TrainConfig(crop_samples=640),
)
METADATA = {"steps": 7, "licence": "CC BY-SA 4.0", "speakers": ["Élodie"], "validation": {"bits": 5.25}}


@pytest.fixture(scope="module")
def voice() -> Voice:
    torch.manual_seed(0)
    tensors = {name: tensor.numpy() for name, tensor in Network(CONFIG).state_dict().items()}
    return Voice(CONFIG, tensors, METADATA)


def without(voice: Voice, name: str) -> Voice:
    tensors = {key: tensor for key, tensor in voice.tensors.items() if key != name}
    return Voice(voice.config, tensors, voice.metadata)


def test_round_trip_is_exact(tmp_path: Path, voice: Voice) -> None:
    save_voice(tmp_path / VOICE_FILE, voice)
    for path in (tmp_path / VOICE_FILE, str(tmp_path / VOICE_FILE), tmp_path, str(tmp_path)):
        loaded = load_voice(path)
        assert loaded.config == voice.config
        assert loaded.metadata == METADATA
        assert loaded.tensors.keys() == voice.tensors.keys()
        for name, tensor in voice.tensors.items():
            assert loaded.tensors[name].dtype == tensor.dtype
            np.testing.assert_array_equal(loaded.tensors[name], tensor)
    network = Network(loaded.config)
    network.load_state_dict({name: torch.from_numpy(tensor) for name, tensor in loaded.tensors.items()})


def test_the_vocoder_tells_what_the_voice_says(tmp_path: Path, voice: Voice) -> None:
    save_voice(tmp_path / "a.safetensors", voice)
    vocoder = gru_audio.load(tmp_path / "a.safetensors")
    assert (vocoder.sample_rate, vocoder.mel_config, vocoder.config) == (8_000, CONFIG.mel, CONFIG)
    assert vocoder.metadata == METADATA
    assert vocoder.lookahead_frames > 2, "the spectral correction takes some"
    assert gru_audio.load(tmp_path / "a.safetensors", corrections=0).lookahead_frames == 2
    assert vocoder.engine_name in ENGINES


def test_a_run_without_a_voice(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"holds no voice\.safetensors; train writes it"):
        load_voice(tmp_path)


def test_the_bundled_voice() -> None:
    """It is small, sparse and attributed, and speaks."""
    assert bundled_voices()[DEFAULT_VOICE].stat().st_size < 4e6
    vocoder = gru_audio.load()
    assert vocoder.config.model.is_pruned
    licence = vocoder.metadata["licence"]
    assert "CC BY-SA 3.0" in licence
    card = vocoder.metadata["card"]
    assert {"attribution", "limits", "not for", "metrics"} <= card.keys()
    for name in ("Allison Smith", "June Wallack", "Carlo Flora", "Maxim Topal", "Nickolay V. Shmyrev"):
        assert name in card["attribution"]
    assert len(vocoder.metadata["speakers"]) == 28


def test_a_bundled_voice_is_known_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert voice_path(DEFAULT_VOICE) == bundled_voices()[DEFAULT_VOICE]
    assert load_voice(DEFAULT_VOICE).metadata == gru_audio.load().metadata
    monkeypatch.chdir(tmp_path)
    (tmp_path / DEFAULT_VOICE).write_bytes(b"a file of the same name goes before it")
    assert voice_path(DEFAULT_VOICE) == Path(DEFAULT_VOICE)


def test_half_precision_is_widened_when_loaded(tmp_path: Path, voice: Voice) -> None:
    save_voice(tmp_path / "full.safetensors", voice)
    save_voice(tmp_path / "half.safetensors", in_half_precision(voice))
    full, half = (load_voice(tmp_path / f"{name}.safetensors") for name in ("full", "half"))
    assert (tmp_path / "half.safetensors").stat().st_size < (tmp_path / "full.safetensors").stat().st_size
    for name, tensor in full.tensors.items():
        assert half.tensors[name].dtype == tensor.dtype
        np.testing.assert_allclose(half.tensors[name], tensor, rtol=5e-4, atol=1e-7)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file"):
        gru_audio.load(tmp_path / "nowhere.safetensors")


@pytest.mark.parametrize("content", [b"", b"RIFF....WAVE", pickle.dumps({"a": 1}), b"\xff" * 1000])
def test_other_content(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / VOICE_FILE
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="not a safetensors file, or a damaged one") as caught:
        load_voice(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_is_not_a_voice(tmp_path: Path) -> None:
    write_tensor_file(tmp_path / VOICE_FILE, "checkpoint", {"step": 1}, {})
    with pytest.raises(CheckpointError, match="is a checkpoint, not a voice"):
        load_voice(tmp_path)


@pytest.mark.parametrize("missing", ["config", "metadata"])
def test_a_header_that_lacks_something(tmp_path: Path, missing: str) -> None:
    document = {"config": CONFIG.model_dump(), "metadata": {}}
    del document[missing]
    write_tensor_file(tmp_path / VOICE_FILE, "voice", document, {})
    with pytest.raises(CheckpointError, match="damaged: its header has no valid"):
        load_voice(tmp_path)


def test_a_config_of_another_version(tmp_path: Path) -> None:
    tables = CONFIG.model_dump()
    tables["model"]["wings"] = 2
    write_tensor_file(tmp_path / VOICE_FILE, "voice", {"config": tables, "metadata": {}}, {})
    with pytest.raises(ConfigError, match=r"voice\.safetensors: \[model\] unknown key 'wings'"):
        load_voice(tmp_path)


def test_every_tensor_is_needed(voice: Voice) -> None:
    for name in voice.tensors:
        with pytest.raises(CheckpointError, match=f"tensor {name} "):
            Vocoder(without(voice, name), "torch", "cpu")


def test_every_shape_is_checked(voice: Voice) -> None:
    for name, tensor in voice.tensors.items():
        for wrong in (np.concatenate([tensor, tensor], axis=-1), tensor[:-1], tensor[None]):
            changed = Voice(voice.config, {**voice.tensors, name: wrong}, voice.metadata)
            with pytest.raises(CheckpointError, match=f"tensor {name} has shape"):
                Vocoder(changed, "torch", "cpu")


@pytest.mark.parametrize("override", [{"samples_per_step": 2}, {"output": "softmax"}, {"cell": "lstm"}])
def test_tensors_of_another_config(voice: Voice, override: dict[str, object]) -> None:
    tables = CONFIG.model_dump()
    tables["model"].update(override)
    changed = Voice(config_from_dict(tables, "test"), voice.tensors, voice.metadata)
    with pytest.raises(CheckpointError, match="its config asks for"):
        Vocoder(changed, "torch", "cpu")


def test_unknown_engine_and_device(voice: Voice) -> None:
    with pytest.raises(ConfigError, match="engine 'warp' does not exist; choose one of auto, "):
        Vocoder(voice, "warp")
    with pytest.raises(ConfigError, match="device 'toaster' "):
        Vocoder(voice, "torch", "toaster")


def test_half_precision_weights_are_taken(tmp_path: Path, voice: Voice) -> None:
    halves = {name: tensor.astype(np.float16) for name, tensor in voice.tensors.items()}
    save_voice(tmp_path / VOICE_FILE, Voice(voice.config, halves, voice.metadata))
    audio = gru_audio.load(tmp_path).synthesize(np.zeros((2, 20), np.float32))
    assert audio.shape == (128,)
    assert np.isfinite(audio).all()


def test_metadata_may_hold_anything_that_json_can(tmp_path: Path, voice: Voice) -> None:
    save_voice(tmp_path / VOICE_FILE, Voice(voice.config, voice.tensors))
    assert document_of(tmp_path / VOICE_FILE)["metadata"] == {}


def imported_by(code: str) -> set[str]:
    """Top-level modules that are loaded after some code has run in a new interpreter."""
    program = f"import sys\n{code}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(finished.stdout.split())


def test_importing_the_package_imports_nothing_heavy() -> None:
    loaded = imported_by("import gru_audio\nassert gru_audio.__all__")
    assert not loaded & {"torch", "numba", "numpy", "librosa", "scipy", "pydantic", "typer"}


@pytest.mark.parametrize("engine", [name for name in ENGINES if name != "torch"])
def test_the_compiled_engines_need_no_torch(tmp_path: Path, voice: Voice, engine: str) -> None:
    save_voice(tmp_path / VOICE_FILE, voice)
    code = (
        "import numpy, gru_audio\n"
        f"vocoder = gru_audio.load({str(tmp_path)!r}, engine={engine!r})\n"
        "assert vocoder.synthesize(vocoder.mel(numpy.zeros(256), 8_000)).shape == (256,)"
    )
    assert not imported_by(code) & {"torch", "torchaudio", "librosa", "scipy", "numba"}
