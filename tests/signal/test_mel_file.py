"""Mels in files: every suffix, stated contracts, and what is refused."""

import json
import os
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch

from gru_audio.config import MEL_PRESETS, MelConfig
from gru_audio.errors import MelError
from gru_audio.signal.mel_file import MEL_SUFFIXES, read_mel

Arrays = Mapping[str, Any]
HIFIGAN = MEL_PRESETS["hifigan-22k"]
MEL = np.linspace(-11, 1, 7 * 80, dtype=np.float32).reshape(7, 80)


def write(path: Path, arrays: Arrays, contract: str | None = None) -> Path:
    """A file of whichever suffix; a contract only where the format has a place for it."""
    if path.suffix == ".npy":
        np.save(path, arrays["mel"])
    elif path.suffix == ".npz":
        stated: dict[str, Any] = {} if contract is None else {"mel_config": np.array(contract)}
        np.savez(path, **stated, **arrays)
    elif path.suffix == ".pt":
        torch.save({name: torch.from_numpy(values) for name, values in arrays.items()}, path)
    else:
        metadata = None if contract is None else {"mel_config": contract}
        safetensors.numpy.save_file(
            {name: np.ascontiguousarray(values) for name, values in arrays.items()}, path, metadata
        )
    return path


@pytest.mark.parametrize("suffix", sorted(MEL_SUFFIXES))
@pytest.mark.parametrize("contract", [None, HIFIGAN])
def test_every_suffix_gives_the_mel_back(tmp_path: Path, suffix: str, contract: MelConfig | None) -> None:
    given: Arrays = {"a": MEL, "b": MEL[None], "wide": MEL.astype(np.float64)}
    for name, values in given.items():
        mel, known = read_mel(write(tmp_path / f"{name}{suffix}", {"mel": values}), contract)

        assert mel.dtype == np.float32
        np.testing.assert_array_equal(mel, MEL)
        assert known is contract


@pytest.mark.parametrize("suffix", sorted(MEL_SUFFIXES))
def test_bands_first_is_turned_and_told(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"a{suffix}", {"mel": MEL.T})

    for contract in (HIFIGAN, None):
        told = list[str]()
        np.testing.assert_array_equal(read_mel(path, contract, told.append)[0], MEL)
        assert told == ["shape (80, 7) is taken for bands x frames, and turned"]


@pytest.mark.parametrize(
    ("shape", "n_frames", "guess"),
    [
        ((7, 80), 7, ""),
        ((80, 100), 100, "shape (80, 100) is taken for bands x frames, and turned"),
        ((100, 80), 100, ""),
        ((100, 333), 333, "shape (100, 333) is taken for bands x frames, and turned"),
        ((1, 333, 128), 333, ""),
        ((333, 1, 80), 333, ""),
        (
            (80, 80),
            80,
            "shape (80, 80) is taken for frames x bands, as it cannot be told from bands x frames",
        ),
        ((12, 33), 12, ""),
    ],
)
def test_layouts_without_a_contract(
    tmp_path: Path, shape: tuple[int, ...], n_frames: int, guess: str
) -> None:
    np.save(tmp_path / "a.npy", np.zeros(shape, np.float32))
    told = list[str]()
    mel, _ = read_mel(tmp_path / "a.npy", tell=told.append)
    assert len(mel) == n_frames
    assert told == ([guess] if guess else [])


def test_suffixes_in_capitals_are_known(tmp_path: Path) -> None:
    path = write(tmp_path / "a.npy", {"mel": MEL}).rename(tmp_path / "A.NPY")
    np.testing.assert_array_equal(read_mel(path)[0], MEL)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_the_stated_contract_goes_before_the_given_one(tmp_path: Path, suffix: str) -> None:
    stated = json.dumps(HIFIGAN.model_dump())
    path = write(tmp_path / f"a{suffix}", {"mel": MEL.T}, stated)

    for given in (None, MelConfig()):
        mel, contract = read_mel(path, given)
        assert contract == HIFIGAN
        np.testing.assert_array_equal(mel, MEL)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize(
    ("stated", "reason"),
    [
        ("{", "Expecting property name"),
        ("[]", "Input should be a valid dictionary or instance of MelConfig"),
        ('{"hop": 3}', "hop: Extra inputs are not permitted"),
        ('{"hop_samples": "3"}', "hop_samples: Input should be a valid integer, got '3'"),
        ('{"hop_samples": 3, "n_mels": 1}', "n_mels: Input should be greater than or equal to 8, got 1"),
        ('{"hop_samples": 801}', "hop_samples .801. must not exceed window_samples"),
    ],
)
def test_a_bad_stated_contract_is_explained(tmp_path: Path, suffix: str, stated: str, reason: str) -> None:
    path = write(tmp_path / f"a{suffix}", {"mel": MEL}, stated)
    with pytest.raises(
        MelError, match=f"a{suffix}: the contract it states is not valid: .*{reason}"
    ) as error:
        read_mel(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("suffix", [".npz", ".pt", ".safetensors"])
def test_of_several_arrays_mel_is_taken(tmp_path: Path, suffix: str) -> None:
    other = np.zeros((3, 80), np.float32)
    mel, _ = read_mel(write(tmp_path / f"a{suffix}", {"energy": other, "mel": MEL}))
    np.testing.assert_array_equal(mel, MEL)
    mel, _ = read_mel(write(tmp_path / f"b{suffix}", {"anything": MEL}))
    np.testing.assert_array_equal(mel, MEL)
    with pytest.raises(MelError, match=r"holds 2 arrays \(energy, mels\); name the mel 'mel'"):
        read_mel(write(tmp_path / f"c{suffix}", {"mels": MEL, "energy": other}))


@pytest.mark.parametrize("suffix", [".npz", ".pt", ".safetensors"])
def test_no_array_at_all(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(MelError, match=r"holds 0 arrays \(none\)"):
        read_mel(write(tmp_path / f"a{suffix}", {}))


def test_a_bare_tensor_and_half_precision_pt(tmp_path: Path) -> None:
    for name, tensor in {
        "bare": torch.from_numpy(MEL),
        "half": torch.from_numpy(MEL).to(torch.bfloat16),
        "learnt": torch.from_numpy(MEL).requires_grad_(),
    }.items():
        torch.save(tensor, tmp_path / f"{name}.pt")
        mel, _ = read_mel(tmp_path / f"{name}.pt")
        np.testing.assert_allclose(mel, MEL, rtol=0, atol=0.05 if name == "half" else 0)


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".pt"])
def test_nothing_is_unpickled(tmp_path: Path, suffix: str) -> None:
    path, proof = tmp_path / f"a{suffix}", tmp_path / "exploded"
    objects = np.array([Bomb(proof)], dtype=object)
    if suffix == ".pt":
        torch.save({"mel": torch.from_numpy(MEL), "more": Bomb(proof)}, path)
    elif suffix == ".npy":
        np.save(path, objects, allow_pickle=True)
    else:
        np.savez(path, mel=objects)
    with pytest.raises(MelError, match=f"a{suffix}: (cannot be read as|holds more than tensors)") as error:
        read_mel(path)
    assert "\n" not in str(error.value)
    assert not proof.exists()


@pytest.mark.parametrize("suffix", sorted(MEL_SUFFIXES))
@pytest.mark.parametrize("content", [b"", b"\x00" * 100, b"RIFF", pickle.dumps({"mel": [1.0]})])
def test_damaged_files_are_named(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    with pytest.raises(MelError, match=f"a{suffix}: "):
        read_mel(path)


@pytest.mark.parametrize("suffix", sorted(MEL_SUFFIXES))
def test_truncated_files_are_named(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"a{suffix}", {"mel": MEL})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(MelError, match=f"a{suffix}: cannot be read as"):
        read_mel(path)


@pytest.mark.parametrize("suffix", sorted(MEL_SUFFIXES))
def test_bad_values_are_refused(tmp_path: Path, suffix: str) -> None:
    spoilt = MEL.copy()
    spoilt[5, 3] = np.nan
    path = write(tmp_path / f"a{suffix}", {"mel": spoilt})
    with pytest.raises(
        MelError, match=f"a{suffix}: 1 (of 7 )?frames have NaN or infinite values, the first is frame 5"
    ):
        read_mel(path, HIFIGAN)
    with pytest.raises(MelError, match="has no axis of 80 bands"):
        read_mel(write(tmp_path / f"b{suffix}", {"mel": MEL[:, :64]}), HIFIGAN)
    for name, values in {"flat": MEL[0], "deep": np.stack([MEL, MEL]), "point": np.array(1.0)}.items():
        with pytest.raises(MelError, match=rf"{name}{suffix}: shape .*, a mel is"):
            read_mel(write(tmp_path / f"{name}{suffix}", {"mel": values}), HIFIGAN)
    for contract in (None, HIFIGAN):
        with pytest.raises(MelError, match=r"holds .*complex64, a mel holds real numbers"):
            read_mel(write(tmp_path / f"d{suffix}", {"mel": MEL.astype(np.complex64)}), contract)


@pytest.mark.parametrize("suffix", sorted(MEL_SUFFIXES))
def test_a_mel_of_no_frames(tmp_path: Path, suffix: str) -> None:
    mel, _ = read_mel(write(tmp_path / f"a{suffix}", {"mel": MEL[:0]}))
    assert mel.shape == (0, 80)


def test_what_is_no_tensor_in_a_pt(tmp_path: Path) -> None:
    torch.save({"mel": 3.0}, tmp_path / "a.pt")
    with pytest.raises(MelError, match="holds a float, not a tensor"):
        read_mel(tmp_path / "a.pt")
    torch.save([torch.zeros(3, 80)], tmp_path / "b.pt")
    with pytest.raises(MelError, match="holds a list, not a tensor"):
        read_mel(tmp_path / "b.pt")


def test_bfloat16_safetensors(tmp_path: Path) -> None:
    safetensors.torch.save_file({"mel": torch.from_numpy(MEL).to(torch.bfloat16)}, tmp_path / "a.safetensors")
    with pytest.raises(MelError, match=r"a\.safetensors: cannot be read .*bfloat16"):
        read_mel(tmp_path / "a.safetensors")


def test_paths_that_are_no_mel_files(tmp_path: Path) -> None:
    with pytest.raises(MelError, match=r"gone\.npy: no such file"):
        read_mel(tmp_path / "gone.npy")
    (tmp_path / "folder.npy").mkdir()
    with pytest.raises(MelError, match=r"folder\.npy: is a folder, not a mel file"):
        read_mel(tmp_path / "folder.npy")
    (tmp_path / "a.txt").write_text("1 2 3")
    with pytest.raises(
        MelError, match=r"a\.txt: not a mel file; known are \.npy, \.npz, \.pt, \.safetensors"
    ):
        read_mel(tmp_path / "a.txt")
