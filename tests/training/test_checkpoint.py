"""Checkpoints: exact round trips, damage, pruning, and writes that fail."""

import json
import math
import pickle
import resource
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from support.documents import document_of
from torch import Tensor

from gru_audio.errors import CheckpointError, OutputError
from gru_audio.network.blocks import RECURRENT_WEIGHT
from gru_audio.training.saved.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from gru_audio.training.saved.moments import require_fit
from gru_audio.voice.run_folder import checkpoint_path, checkpoint_paths
from gru_audio.voice.tensor_file import read_tensor_file, write_tensor_file


def checkpoint_of(step: int, size: int = 5) -> Checkpoint:
    generator = torch.Generator().manual_seed(step)
    groups: dict[str, Mapping[str, Tensor]] = {
        "network": {"a.weight": torch.randn(size, 3, generator=generator).T, "a/b": torch.tensor(math.pi)},
        "average": {"a.weight": torch.randn(3, size, generator=generator)},
        "optimizer": {"a.weight/step": torch.tensor(3.0), "a.weight/exp_avg": torch.zeros(0, 2)},
    }
    return Checkpoint(step, groups, {"config": {"train": {"steps": 9}}, "best_bits": None, "naïve": [1, 2.5]})


@contextmanager
def largest_file(n_bytes: int) -> Iterator[None]:
    """Let the system refuse to write more than `n_bytes` to a file, as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def one_line_error(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def test_round_trip_is_exact(tmp_path: Path) -> None:
    saved = checkpoint_of(7)
    path = save_checkpoint(tmp_path / "new" / "run", saved, 3)
    loaded = load_checkpoint(path)
    assert loaded.step == 7
    assert {key: loaded.document[key] for key in saved.document} == saved.document
    assert {group: set(named) for group, named in loaded.groups.items()} == {
        group: set(named) for group, named in saved.groups.items()
    }
    for group, named in saved.groups.items():
        for name, tensor in named.items():
            found = loaded.groups[group][name]
            assert (found.dtype, found.shape) == (tensor.dtype, tensor.shape)
            assert torch.equal(found, tensor)


def test_equal_contents_give_equal_bytes(tmp_path: Path) -> None:
    paths = [save_checkpoint(tmp_path / name, checkpoint_of(1), 1) for name in "ab"]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_before_a_first_good_step_there_is_no_optimizer_state(tmp_path: Path) -> None:
    groups = {**checkpoint_of(1).groups, "optimizer": {}}
    path = save_checkpoint(tmp_path, Checkpoint(1, groups, {}), 1)
    assert load_checkpoint(path).groups["optimizer"] == {}


@pytest.mark.parametrize("n_kept", [1, 2, 5])
def test_the_newest_are_kept(tmp_path: Path, n_kept: int) -> None:
    steps = [5, 10, 100, 2_000, 30_000]
    for step in steps:
        save_checkpoint(tmp_path, checkpoint_of(step), n_kept)
    kept = checkpoint_paths(tmp_path)
    assert [load_checkpoint(path).step for path in kept] == steps[-n_kept:]


def test_an_old_one_that_cannot_be_removed_is_named(tmp_path: Path) -> None:
    checkpoint_path(tmp_path, 1).mkdir(parents=True)
    with pytest.raises(OutputError, match=r"step-000000001\.safetensors: cannot be written: Is a directory"):
        save_checkpoint(tmp_path, checkpoint_of(2), 1)


def test_paths_of_a_run_without_checkpoints(tmp_path: Path) -> None:
    assert checkpoint_paths(tmp_path) == []


def test_a_half_written_file_is_not_taken_for_a_checkpoint(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, checkpoint_of(1), 3)
    path.with_name(f".{path.stem}.123.partial.safetensors").write_bytes(b"half")
    assert checkpoint_paths(tmp_path) == [path]


@pytest.mark.parametrize("limit", [0, 100, 20_000])
def test_a_write_that_fails_leaves_all_as_it_was(tmp_path: Path, limit: int) -> None:
    old = save_checkpoint(tmp_path, checkpoint_of(1), 1)
    before = old.read_bytes()
    with largest_file(limit), pytest.raises(OutputError, match="cannot be written: File too large") as caught:
        save_checkpoint(tmp_path, checkpoint_of(2, size=4_000), 1)
    assert "\n" not in str(caught.value)
    assert files_below(tmp_path) == ["checkpoints/step-000000001.safetensors"]
    assert old.read_bytes() == before
    with largest_file(limit), pytest.raises(OutputError):
        save_checkpoint(tmp_path, checkpoint_of(1, size=4_000), 1)
    assert old.read_bytes() == before, "the same step again must not be harmed either"


@pytest.mark.parametrize("call", ["write_bytes", "replace"])
def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    old = save_checkpoint(tmp_path, checkpoint_of(1), 1)

    def full(path: Path, *_: object) -> None:
        if call == "write_bytes":
            path.touch()
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, call, full)
        with pytest.raises(OutputError, match="No space left on device"):
            save_checkpoint(tmp_path, checkpoint_of(2), 1)
    assert files_below(tmp_path) == ["checkpoints/step-000000001.safetensors"]
    assert load_checkpoint(old).step == 1


def test_the_runs_place_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        save_checkpoint(tmp_path / "run", checkpoint_of(1), 1)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9, 0.999])
def test_a_truncated_file(tmp_path: Path, share: float) -> None:
    path = save_checkpoint(tmp_path, checkpoint_of(1, size=200), 1)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    assert "not a safetensors file, or a damaged one" in one_line_error(path)


def test_no_file_and_a_folder(tmp_path: Path) -> None:
    assert "no such file" in one_line_error(tmp_path / "step-1.safetensors")
    assert "is a folder" in one_line_error(tmp_path)


class Bomb:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("kind", ["pickle", "torch"])
def test_nothing_is_unpickled(tmp_path: Path, kind: str) -> None:
    path, mark = tmp_path / "step-1.safetensors", tmp_path / "mark"
    if kind == "pickle":
        path.write_bytes(pickle.dumps(Bomb(mark)))
    else:
        torch.save({"weights": torch.zeros(3), "bomb": Bomb(mark)}, path)
    assert "not a safetensors file" in one_line_error(path)
    assert not mark.exists()
    pickle.loads(pickle.dumps(Bomb(mark)))
    assert mark.exists(), "the bomb works"


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        {"format": "pt"},
        {"gru_audio": "{"},
        {"gru_audio": "[]"},
        {"gru_audio": "{}"},
        {"gru_audio": '{"kind": "checkpoint", "version": null}'},
    ],
)
def test_a_foreign_file(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    path = tmp_path / "model.safetensors"
    safetensors.numpy.save_file({"a": np.zeros(3, np.float32)}, path, metadata)
    assert "not one that gru-audio wrote" in one_line_error(path)


def test_another_kind_of_file(tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    write_tensor_file(path, "voice", {}, {})
    assert "is a voice, not a checkpoint" in one_line_error(path)
    shard = {"gru_audio": json.dumps({"version": 1, "fingerprint": ""})}
    safetensors.numpy.save_file({"pcm/a": np.zeros(3, np.int16)}, path, shard)
    assert "is a dataset's shard, not a checkpoint" in one_line_error(path)


def test_a_newer_file(tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    newer = {"gru_audio": json.dumps({"kind": "checkpoint", "version": 9})}
    safetensors.numpy.save_file({}, path, newer)
    assert "of version 9, newer than this gru-audio; upgrade it" in one_line_error(path)


@pytest.mark.parametrize("missing", ["network", "average"])
def test_a_part_is_missing(tmp_path: Path, missing: str) -> None:
    groups = {name: named for name, named in checkpoint_of(1).groups.items() if name != missing}
    path = save_checkpoint(tmp_path, Checkpoint(1, groups, {}), 1)
    assert "lacks a part of the training state" in one_line_error(path)


def test_a_tensor_that_numpy_cannot_hold(tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    header = {"gru_audio": json.dumps({"kind": "checkpoint", "version": 1, "step": 1})}
    safetensors.torch.save_file({"network/a": torch.zeros(3, dtype=torch.bfloat16)}, path, header)
    assert "holds a tensor that cannot be read" in one_line_error(path)


def test_the_document_is_read_without_the_tensors(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, checkpoint_of(3), 1)
    document = document_of(path)
    assert (document["kind"], document["step"]) == ("checkpoint", 3)
    assert set(read_tensor_file(path, "checkpoint")[1]) > {
        "network/a/b",
        "average/a.weight",
        "optimizer/a.weight/step",
    }


def test_a_number_that_json_cannot_hold_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_tensor_file(tmp_path / "file.safetensors", "voice", {"bits": math.nan}, {})
    assert files_below(tmp_path) == []


def test_what_is_no_networks_is_named() -> None:
    network = torch.nn.Linear(3, 2)
    weights = network.state_dict()
    moments = {
        f"{name}/{key}": torch.zeros_like(weights[name])
        for name in weights
        for key in ("exp_avg", "exp_avg_sq")
    }
    moments |= {f"{name}/step": torch.tensor(1.0) for name in weights}
    whole = {"network": weights, "average": dict(weights), "optimizer": moments}
    require_fit(Checkpoint(1, whole, {}), network)
    require_fit(Checkpoint(1, {**whole, "optimizer": {}}, {}), network)
    nan = torch.full((2,), math.nan)
    for odd in (torch.zeros(0), torch.zeros(1, 2), torch.zeros(2, dtype=torch.int32), nan, None):
        for group, name in (("network", "bias"), ("average", "bias"), ("optimizer", "bias/exp_avg")):
            named = {key: value for key, value in {**whole[group], name: odd}.items() if value is not None}
            with pytest.raises(CheckpointError, match=f"step 1: damaged: {group}/{name} "):
                require_fit(Checkpoint(1, {**whole, group: named}, {}), network)
    negative = {**moments, "bias/exp_avg_sq": torch.full((2,), -1.0)}
    with pytest.raises(CheckpointError, match="damaged: optimizer/bias/exp_avg_sq "):
        require_fit(Checkpoint(1, {**whole, "optimizer": negative}, {}), network)


def test_masks_of_another_network_are_named() -> None:
    network = torch.nn.Module()
    network.sample_network = torch.nn.Module()
    network.sample_network.cell = torch.nn.GRU(3, 4)
    weights = network.state_dict()
    whole = {"network": weights, "average": weights, "optimizer": {}}
    kept = torch.ones(12, 4, dtype=torch.bool)
    require_fit(Checkpoint(1, {**whole, "masks": {RECURRENT_WEIGHT: kept}}, {}), network, [RECURRENT_WEIGHT])
    for odd in (kept[:3], kept.float(), None):
        masks = {"other": kept} if odd is None else {RECURRENT_WEIGHT: odd}
        with pytest.raises(CheckpointError, match=f"damaged: masks/{RECURRENT_WEIGHT} "):
            require_fit(Checkpoint(1, {**whole, "masks": masks}, {}), network, [RECURRENT_WEIGHT])
    for pruned in ([], [RECURRENT_WEIGHT]):
        masks = dict.fromkeys(pruned, kept) | {"mel_mean": kept}
        with pytest.raises(CheckpointError, match="damaged: masks/mel_mean is of nothing that is pruned"):
            require_fit(Checkpoint(1, {**whole, "masks": masks}, {}), network, pruned)
