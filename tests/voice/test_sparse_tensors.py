"""Pruned matrices in files: what is left takes the room, all comes back, and what cannot be a matrix is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import save_file

from gru_audio.errors import CheckpointError
from gru_audio.voice.sparse_tensors import SparseTensorError, is_squeezed, squeezed, whole
from gru_audio.voice.tensor_file import read_tensor_file, write_tensor_file

Array = NDArray[Any]


def sparse_matrix(n_rows: int, n_columns: int, share: float, seed: int = 0, dtype: str = "float32") -> Array:
    random = np.random.default_rng(seed)
    kept = random.random((-(-n_rows // 16), -(-n_columns // 4))) < share
    spread = kept.repeat(16, 0).repeat(4, 1)[:n_rows, :n_columns]
    return np.asarray(spread * random.normal(0, 1, (n_rows, n_columns)), dtype)


@given(
    n_rows=st.integers(1, 70),
    n_columns=st.integers(1, 40),
    share=st.sampled_from([0.0, 0.1, 0.4, 1.0]),
    dtype=st.sampled_from(["float16", "float32", "bool"]),
    seed=st.integers(0, 50),
)
def test_all_comes_back(n_rows: int, n_columns: int, share: float, dtype: str, seed: int) -> None:
    tensors = {
        "matrix": sparse_matrix(n_rows, n_columns, share, seed, dtype),
        "vector": np.zeros(40),
        "cube": np.zeros((64, 64, 2), np.float32),
        "number": np.array(3.0),
        "nothing": np.zeros((16, 0), np.float32),
    }
    found = whole(squeezed(tensors))
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape)
        np.testing.assert_array_equal(found[name], tensor)


def test_what_is_left_takes_the_room(tmp_path: Path) -> None:
    matrix = sparse_matrix(1920, 640, 0.1)
    dense, sparse = (tmp_path / f"{name}.safetensors" for name in ("dense", "sparse"))
    write_tensor_file(dense, "voice", {}, {"weight": matrix + 1})
    write_tensor_file(sparse, "voice", {}, {"weight": matrix})
    assert 0.08 < sparse.stat().st_size / dense.stat().st_size < 0.12
    versions = [read_tensor_file(path, "voice")[0]["version"] for path in (dense, sparse)]
    assert versions == [1, 2], "a version that knows no blocks refuses them"
    np.testing.assert_array_equal(read_tensor_file(sparse, "voice")[1]["weight"], matrix)


def test_what_is_mostly_there_stays_as_it_is() -> None:
    tensors = {"half": sparse_matrix(64, 64, 0.9), "empty": np.zeros((64, 64), np.float32)}
    found = squeezed(tensors)
    assert not is_squeezed(found) and all(found[name] is tensor for name, tensor in tensors.items())


def test_what_is_written_can_be_read() -> None:
    """Of a matrix of 4096 blocks with next to nothing in it, too: it stays as it is."""
    for n_left, is_left_as_it_is in ((1, True), (15, True), (16, False), (2047, False), (2048, True)):
        matrix = np.zeros((1024, 256), np.float32)
        cut = matrix.reshape(64, 16, 64, 4)
        for block in range(n_left):
            cut[block // 64, 3, block % 64, 1] = 0.5
        found = squeezed({"matrix": matrix})
        assert is_squeezed(found) != is_left_as_it_is, n_left
        np.testing.assert_array_equal(whole(found)["matrix"], matrix)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no shape": ({"w:shape": None}, "not there as one matrix"),
    "no places": ({"w:places": None}, "not there as one matrix"),
    "there already": ({"w": np.zeros((2, 2))}, "not there as one matrix"),
    "a shape of one": ({"w:shape": np.array([64])}, "no valid shape"),
    "a shape of fractions": ({"w:shape": np.array([64.0, 64.0])}, "no valid shape"),
    "no rows": ({"w:shape": np.array([0, 64])}, "no valid shape"),
    "more than memory": ({"w:shape": np.array([1 << 62, 1 << 62])}, "too large for so few blocks"),
    "blocks of nothing": (
        {"w:places": np.zeros(0, np.int32), "w:blocks": np.zeros((0, 16, 4), np.float32)},
        "too large for so few blocks",
    ),
    "fewer blocks": ({"w:blocks": np.zeros((1, 16, 4), np.float32)}, "other blocks than places"),
    "odd blocks": ({"w:blocks": np.zeros((2, 4, 16), np.float32)}, "other blocks than places"),
    "blocks of no shape": ({"w:blocks": np.zeros((), np.float32)}, "other blocks than places"),
    "places of no shape": ({"w:places": np.array(1, np.int32)}, "other blocks than places"),
    "pairs of places": ({"w:places": np.array([[1, 2], [3, 4]], np.int32)}, "other blocks than places"),
    "places of another type": ({"w:places": np.array([1.0, 2.0])}, "no int32"),
    "a place below": ({"w:places": np.array([-1, 2], np.int32)}, "outside of it"),
    "a place beyond": ({"w:places": np.array([1, 64], np.int32)}, "outside of it"),
    "one place twice": ({"w:places": np.array([2, 2], np.int32)}, "two in one place"),
}


@pytest.mark.parametrize("change", WRONG)
def test_parts_that_are_no_matrix(tmp_path: Path, change: str) -> None:
    """In a file, too, which has no digest, as those of the first versions."""
    stored = {
        "w:shape": np.array([64, 64]),
        "w:places": np.array([1, 2], np.int32),
        "w:blocks": np.ones((2, 16, 4), np.float32),
    }
    assert whole(stored)["w"].sum() == 128
    different, reason = WRONG[change]
    wrong = {name: array for name, array in {**stored, **different}.items() if array is not None}
    with pytest.raises(SparseTensorError, match=reason):
        whole(wrong)
    path = tmp_path / "voice.safetensors"
    save_file(wrong, path, {"gru_audio": json.dumps({"kind": "voice", "version": 2})})
    with pytest.raises(CheckpointError, match=f"{path}: damaged: w .*{reason}.*; copy it again"):
        read_tensor_file(path, "voice")
