"""A run that memory does not hold is refused before it begins, or ends in one line."""

import pytest
import torch

from gru_audio.config import Config, load_config, with_overrides
from gru_audio.errors import TrainingError
from gru_audio.training import memory
from gru_audio.training.memory import memory_errors, needed_bytes, require_memory

CPU = torch.device("cpu")


def test_what_is_needed_grows_with_the_network_and_the_largest_batch() -> None:
    small = load_config("tiny")
    larger = with_overrides(small, ["model.gru_size=8192"])
    longer = with_overrides(small, ["train.stages=[{from_step=10, batch_size=1000, crop_samples=100000}]"])
    assert needed_bytes(larger)[0] > 3 * 8192**2 * 4 * 5
    assert needed_bytes(longer)[0] == needed_bytes(small)[0]
    assert needed_bytes(longer)[1] == 1000 * 100_000 // 2 * small.model.gru_size * 4 * 4


@pytest.mark.parametrize(("batch_size", "crop_samples"), [(1_000_000, 1_600), (100, 10_000_000)])
def test_a_batch_that_no_machine_holds(batch_size: int, crop_samples: int) -> None:
    config = with_overrides(
        Config(), [f"train.batch_size={batch_size}", f"train.crop_samples={crop_samples}"]
    )
    with pytest.raises(
        TrainingError, match=r"needs [\d,.]+ GiB of memory at least, .* cpu has .*: make"
    ) as caught:
        require_memory(config, CPU)
    assert len(str(caught.value).splitlines()) == 1


def test_processes_share_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    config = Config()
    monkeypatch.setattr(memory, "memory_bytes", lambda device: sum(needed_bytes(config)) - 1)
    with pytest.raises(TrainingError, match="needs"):
        require_memory(config, CPU)
    require_memory(config, CPU, n_processes=2)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_what_is_not_known_is_not_refused(device: str) -> None:
    require_memory(load_config("tiny"), torch.device(device))


def test_memory_that_runs_out_is_one_line() -> None:
    for error in (MemoryError(), RuntimeError("CUDA out of memory. Tried"), too_large()):
        with pytest.raises(TrainingError, match="not enough memory to train; make model"), memory_errors():
            raise error
    with pytest.raises(RuntimeError, match="another"), memory_errors():
        raise RuntimeError("another")


def too_large() -> Exception:
    """What torch raises on a CPU."""
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    return caught.value
