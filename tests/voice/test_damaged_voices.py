"""Voices that were damaged, or made by someone who means no good: one line each, and never a sound."""

import json
import os
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from support.documents import document_of

from gru_audio.config import Config, MelConfig, ModelConfig, TrainConfig
from gru_audio.errors import CheckpointError, GruAudioError
from gru_audio.network.model import Network
from gru_audio.safetensors_file import METADATA_KEY
from gru_audio.voice.voice import Voice, load_voice, save_voice

CONFIG = Config(
    mel=MelConfig(
        sample_rate_hz=8_000, n_fft=256, window_samples=200, hop_samples=64, n_mels=20, f_max_hz=4_000.0
    ),
    model=ModelConfig(gru_size=16, conditioning_size=16, readout_size=16, pitch_size=16),
    train=TrainConfig(crop_samples=640),
)
Document = dict[str, Any]


@pytest.fixture(scope="module")
def voice() -> Voice:
    torch.manual_seed(0)
    tensors = {name: tensor.numpy() for name, tensor in Network(CONFIG).state_dict().items()}
    return Voice(
        CONFIG, tensors, {"steps": 7, "licence": "CC0", "speakers": ["a"], "validation": {"bits": 5.25}}
    )


@pytest.fixture
def path(tmp_path: Path, voice: Voice) -> Path:
    save_voice(tmp_path / "voice.safetensors", voice)
    return tmp_path / "voice.safetensors"


def refused(path: Path) -> str:
    with pytest.raises(GruAudioError) as caught:
        load_voice(path)
    line = str(caught.value)
    assert path.name in line
    assert "\n" not in line
    assert len(line) < 600
    return line


def rewritten(path: Path, change: Callable[[Document], object]) -> None:
    """The same file with another document, and no digest: as an older version may have made it."""
    document = document_of(path)
    del document["digest"]
    change(document)
    safetensors.numpy.save_file(safetensors.numpy.load_file(path), path, {METADATA_KEY: json.dumps(document)})


def with_text(path: Path, text: str) -> None:
    safetensors.numpy.save_file(safetensors.numpy.load_file(path), path, {METADATA_KEY: text})


def test_every_flipped_bit_is_found(path: Path) -> None:
    whole, rng = path.read_bytes(), random.Random(0)
    header_bytes = 8 + struct.unpack("<Q", whole[:8])[0]
    assert load_voice(path)
    for trial in range(200):
        damaged = bytearray(whole)
        place = rng.randrange(header_bytes, len(whole)) if trial % 2 else rng.randrange(len(whole))
        damaged[place] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        refused(path)


def test_a_changed_number_of_the_document_is_found(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'\\"steps\\": 7', b'\\"steps\\": 8'))
    assert path.read_bytes() != whole
    assert "do not match their digest; copy it again" in refused(path)


def test_a_voice_of_an_older_version_has_no_digest(path: Path, voice: Voice) -> None:
    rewritten(path, lambda document: None)
    assert "digest" not in document_of(path)
    loaded = load_voice(path)
    assert loaded.metadata == voice.metadata
    for name, tensor in voice.tensors.items():
        np.testing.assert_array_equal(loaded.tensors[name], tensor)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda document: document.update(config=[]), "config: "),
        (lambda document: document.update(config=None), "config: "),
        (lambda document: document.update(metadata="text"), "metadata: "),
        (lambda document: document["metadata"].update(steps="many"), "metadata.steps: "),
        (lambda document: document["metadata"].update(steps=-1), "metadata.steps: "),
        (lambda document: document["metadata"].update(speakers="ann"), "metadata.speakers: "),
        (lambda document: document["metadata"].update(speakers=[1]), "metadata.speakers.0: "),
        (lambda document: document["metadata"].update(licence=3), "metadata.licence: "),
        (lambda document: document["metadata"].update(validation=[1]), "metadata.validation: "),
        (
            lambda document: document["metadata"].update(validation={"bits": "5"}),
            "metadata.validation.bits: ",
        ),
        (lambda document: document["metadata"].update(card=[]), "metadata.card: "),
        (lambda document: document["metadata"].update(sampling=3), "metadata.sampling: "),
        (lambda document: document.update(version="1"), "version: "),
        (lambda document: document.update(version=None), "version: "),
        (lambda document: document.update(kind=["voice"]), "kind: "),
        (lambda document: document["config"].update(mel=3), "[mel]|mel"),
        (lambda document: document["config"]["mel"].update(hop_samples="64"), "hop_samples"),
        (lambda document: document["config"]["model"].update(gru_size=-1), "gru_size"),
    ],
)
def test_a_document_of_other_types(path: Path, change: Callable[[Document], object], says: str) -> None:
    rewritten(path, change)
    assert any(part in refused(path) for part in says.split("|"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[" * 100_000, "nested deeper than 32 levels"),
        ('{"kind": "voice", "version": 1, "config": ' + "[" * 100_000, "nested deeper than 32 levels"),
        ('{"kind": "voice", "version": ' + "9" * 5_000 + "}", "an integer of 5000 digits"),
        ('{"kind": "voice", "version": 1e999}', "holds 1e999, which is no finite number"),
        ('{"kind": "voice", "version": NaN}', "holds NaN"),
        ('{"kind": "voice", "version": 99}', "newer than this gru-audio"),
        ("[]", "not one that gru-audio wrote"),
        ("null", "not one that gru-audio wrote"),
        ("", "not one that gru-audio wrote"),
    ],
)
def test_a_document_past_all_bounds(path: Path, text: str, says: str) -> None:
    with_text(path, text)
    assert says in refused(path)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite(tmp_path: Path, voice: Voice, number: float) -> None:
    for name, tensor in voice.tensors.items():
        if tensor.dtype.kind == "f":
            changed = tensor.copy()
            changed.flat[-1] = number
            save_voice(tmp_path / "voice.safetensors", Voice(CONFIG, {**voice.tensors, name: changed}))
            assert f"tensor {name} holds values that are not finite" in refused(
                tmp_path / "voice.safetensors"
            )


@pytest.mark.parametrize("number", [0.0, -1.0])
def test_a_mel_band_that_never_changes(tmp_path: Path, voice: Voice, number: float) -> None:
    still = voice.tensors["mel_std"].copy()
    still[3] = number
    save_voice(tmp_path / "voice.safetensors", Voice(CONFIG, {**voice.tensors, "mel_std": still}))
    assert "mel_std holds values that are not above 0" in refused(tmp_path / "voice.safetensors")


@pytest.mark.parametrize("n_bytes", [1 << 62, 100_000_001, 2**64 - 1])
def test_a_header_longer_than_the_file(tmp_path: Path, n_bytes: int) -> None:
    path = tmp_path / "voice.safetensors"
    path.write_bytes(struct.pack("<Q", n_bytes) + b"{}")
    assert "not a safetensors file, or a damaged one" in refused(path)


@pytest.mark.timeout(60)
def test_a_pipe_a_folder_and_names_that_cannot_be(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "voice")
    assert "is a pipe, not a file; check the path" in refused(tmp_path / "voice")
    (tmp_path / "run").mkdir()
    os.mkfifo(tmp_path / "run" / "voice.safetensors")
    with pytest.raises(CheckpointError):
        load_voice(tmp_path / "run")
    for name in ("a" * 256, "ü" * 200, "a" * 100_000, "a\0b"):
        with pytest.raises(CheckpointError) as caught:
            load_voice(tmp_path / name)
        assert len(str(caught.value)) < 600
