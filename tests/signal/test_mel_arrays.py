"""Mel files that state more than they hold: one line, and no memory asked for."""

import json
import os
import resource
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file

from gru_audio.errors import MelError
from gru_audio.signal.mel_file import read_mel

MEL = np.full((50, 80), -5.0, np.float32)


@contextmanager
def little_memory(more_bytes: int = 1 << 30) -> Iterator[None]:
    """Let this process have only so much more of address space."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def refused(path: Path, says: str) -> None:
    with little_memory(), pytest.raises(MelError, match=says) as caught:
        read_mel(path)
    line = str(caught.value)
    assert line.startswith(f"{path}: ")
    assert "\n" not in line


def npy(shape: tuple[int, ...], data: bytes, kind: str = "<f4", version: int = 1) -> bytes:
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (-(10 + len(header) + 1) % 64) + b"\n"
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H", len(header)) + header + data


@pytest.mark.parametrize(
    "shape", [(10**9, 80), (10**18, 10**18), (51, 80), (-1, 80), (-50, -80), (1 << 62, 4)]
)
def test_a_shape_past_the_file(tmp_path: Path, shape: tuple[int, ...]) -> None:
    (tmp_path / "a.npy").write_bytes(npy(shape, MEL.tobytes()))
    refused(tmp_path / "a.npy", "cannot be read as .npy: it states an array of shape")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("mel.npy", npy(shape, MEL.tobytes()))
    refused(tmp_path / "a.npz", "cannot be read as .npz: it states an array of shape")


def test_other_contents(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    for data, says in (
        (npy((50, 80), MEL.tobytes()[:-1]), "cut short|states"),
        (npy((50, 80), MEL.tobytes(), "|O"), "Python objects"),
        (npy((50, 80), MEL.tobytes(), version=9), "version 9.0|format"),
        (npy((50, 80), MEL.tobytes())[:20], "cannot be read"),
        (b"", "the file is empty"),
    ):
        path.write_bytes(data)
        refused(path, says)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", ["<f4", "<f8", ">f4", "<f2", "<i2"])
def test_every_layout_is_read_as_numpy_reads_it(tmp_path: Path, order: str, kind: str) -> None:
    mel: NDArray[np.generic] = np.asarray(
        np.random.default_rng(0).integers(-11, 2, (50, 80)),
        kind,
        order=order,  # type: ignore[call-overload]
    )
    np.save(tmp_path / "a.npy", mel)
    np.savez(tmp_path / "a.npz", mel=mel, other=np.zeros(3))
    np.savez_compressed(tmp_path / "b.npz", only=mel)
    for name in ("a.npy", "a.npz", "b.npz"):
        np.testing.assert_array_equal(read_mel(tmp_path / name)[0], mel.astype(np.float32))


def with_zeros(path: Path, name: str, n_frames: int) -> None:
    """Put zeros into an archive; they take a thousandth of their room in it."""
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive, archive.open(name, "w") as stream:
        stream.write(npy((n_frames, 80), b""))
        stream.write(bytes(320 * n_frames))


def test_only_the_array_that_is_wanted_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "a.npz", mel=MEL)
    with_zeros(tmp_path / "a.npz", "other.npy", 100_000)
    monkeypatch.setenv("GRU_AUDIO_LIMIT_GIB", "0.01")
    np.testing.assert_array_equal(read_mel(tmp_path / "a.npz")[0], MEL)


def test_an_archive_that_swells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_zeros(tmp_path / "a.npz", "mel.npy", 100_000)
    assert (tmp_path / "a.npz").stat().st_size < 100_000
    assert read_mel(tmp_path / "a.npz")[0].shape == (100_000, 80)
    monkeypatch.setenv("GRU_AUDIO_LIMIT_GIB", "0.01")
    refused(tmp_path / "a.npz", "over the limit of 0.01; .* set GRU_AUDIO_LIMIT_GIB=1")


def test_an_expanded_tensor(tmp_path: Path) -> None:
    torch.save(torch.full((1, 80), -5.0).expand(5_000_000, 80), tmp_path / "a.pt")
    assert (tmp_path / "a.pt").stat().st_size < 5_000
    refused(tmp_path / "a.pt", "GRU_AUDIO_LIMIT_GIB")
    torch.save(torch.full((1, 80), -5.0).expand(50, 80), tmp_path / "b.pt")
    np.testing.assert_array_equal(read_mel(tmp_path / "b.pt")[0], MEL)


def test_other_tensors(tmp_path: Path) -> None:
    torch.save(torch.from_numpy(MEL).to_sparse(), tmp_path / "a.pt")
    with pytest.raises(MelError, match="holds a sparse tensor"):
        read_mel(tmp_path / "a.pt")
    torch.save({"mel": torch.from_numpy(MEL).half(), "big": torch.zeros(10)}, tmp_path / "a.pt")
    np.testing.assert_array_equal(read_mel(tmp_path / "a.pt")[0], MEL)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"n_mels": 1e999}', '{"n_mels": ' + "9" * 5_000 + "}", "[]", "nul"]
)
def test_a_stated_contract_past_all_bounds(tmp_path: Path, text: str) -> None:
    np.savez(tmp_path / "a.npz", mel=MEL, mel_config=np.array(text))
    with pytest.raises(MelError, match="the contract it states is not valid"):
        read_mel(tmp_path / "a.npz")


def test_a_contract_without_end(tmp_path: Path) -> None:
    np.savez_compressed(
        tmp_path / "a.npz", mel=MEL, mel_config=np.array(json.dumps({"n_mels": "8" * 5_000_000}))
    )
    refused(tmp_path / "a.npz", "the contract it states has .* bytes")


@pytest.mark.timeout(60)
@pytest.mark.parametrize("suffix", [".npy", ".npz", ".pt", ".safetensors"])
def test_a_pipe_does_not_hang(tmp_path: Path, suffix: str) -> None:
    os.mkfifo(tmp_path / f"a{suffix}")
    with pytest.raises(MelError, match="is a pipe, not a mel file"):
        read_mel(tmp_path / f"a{suffix}")


def test_a_safetensors_file_past_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_file({"mel": np.zeros((5_000, 80), np.float32)}, tmp_path / "a.safetensors")
    monkeypatch.setenv("GRU_AUDIO_LIMIT_GIB", "0.001")
    refused(tmp_path / "a.safetensors", "over the limit of 0.00")
    save_file({"mel": MEL}, tmp_path / "b.safetensors", {"mel_config": "[" * (2 << 20)})
    refused(tmp_path / "b.safetensors", "the contract it states has 2097152 bytes")
