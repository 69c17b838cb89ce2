"""Steps that are captured once and replayed, with a stand-in for a CUDA graph; and sums whose way back is a product."""

from collections.abc import Callable

import pytest
import torch
from support.trained import make_dataset, small_config
from torch import Tensor, nn

from gru_audio.config import CONTEXT_FRAMES
from gru_audio.data.dataset import Dataset
from gru_audio.network.gpu.embedding import row_sums
from gru_audio.training.batches.crops import CropSource
from gru_audio.training.learner import Learner
from gru_audio.training.replay import Outcome, Replay, recorder

CPU = torch.device("cpu")


class StandIn:
    """Like a graph: recording does nothing, and a replay writes its results where the last one did."""

    def __init__(self) -> None:
        self.n_recorded, self.n_replayed = 0, 0
        self._held = list[Tensor]()

    def __call__(self, work: Callable[[], Outcome]) -> Callable[[], Outcome]:
        self.n_recorded += 1

        def replay() -> Outcome:
            self.n_replayed += 1
            results = work()
            if not self._held:
                self._held += [torch.empty_like(result) for result in results]
            for held, result in zip(self._held, results, strict=True):
                held.copy_(result)
            return tuple(self._held)

        return replay


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> CropSource:
    dataset = Dataset.open(make_dataset(tmp_path_factory.mktemp("replay"), 110, 140))
    return CropSource(dataset, CONFIG, "train", CONTEXT_FRAMES)


CONFIG = small_config(
    *("train.steps=14", "train.precision=fp32", "model.recurrent_density=[0.5, 0.5, 0.5]"),
    *(
        "train.pitch_handover_step=5",
        "train.prune_start_step=9",
        "train.prune_end_step=12",
        "train.prune_every=1",
    ),
)


def learned(source: CropSource, replay: Replay | None, n_steps: int = 14) -> tuple[Learner, list[Tensor]]:
    """A learner after some steps, and what each told, copied at once."""
    learner = Learner(CONFIG, CPU, source)
    if replay is not None:
        learner.replay = replay
    told = []
    for step in range(n_steps):
        losses, norm = learner.train_step(source.batch(step).to(CPU))
        told.append(torch.stack([*losses, norm]).clone())
    return learner, told


def test_replayed_steps_are_the_steps(source: CropSource) -> None:
    """Through the handover of the pitch, the choices of pruning, and all that is kept in tensors."""
    record = StandIn()
    learner, told = learned(source, Replay(record, "training steps"))
    plain, expected = learned(source, None)
    assert all(map(torch.equal, told, expected))
    for ours, theirs in zip(learner.network.parameters(), plain.network.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert record.n_recorded == 3, "with labels, with own pitch, pruned"
    assert record.n_replayed == 14 - 3 * 3


def test_a_capture_that_fails_is_told_once(source: CropSource) -> None:
    def fail(work: Callable[[], Outcome]) -> Callable[[], Outcome]:
        work()
        raise RuntimeError("operation not permitted when stream is capturing\nand more")

    told = list[str]()
    learner, _ = learned(source, Replay(fail, "training steps", told.append), 7)
    assert told == [
        "training steps are not captured as a CUDA graph: operation not permitted when stream is capturing"
    ]
    assert learner.step == 7


def test_what_was_captured_is_forgotten(source: CropSource) -> None:
    record = StandIn()
    learner, _ = learned(source, Replay(record, "training steps"), 4)
    learner.replay.forget()
    learner.train_step(source.batch(4).to(CPU))
    assert (record.n_recorded, record.n_replayed) == (1, 1)


def test_a_cpu_captures_nothing() -> None:
    assert recorder(CPU) is None


def test_row_sums_are_embedding_bags() -> None:
    torch.manual_seed(0)
    tables, codes = torch.randn(3, 8, 5, requires_grad=True), torch.randint(8, (20, 3))
    above = torch.randn(20, 5)
    found, expected = (
        row_sums(tables, codes),
        sum(nn.functional.embedding(codes[:, i], tables[i]) for i in range(3)),
    )
    assert isinstance(expected, Tensor)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        torch.autograd.grad(found, tables, above), torch.autograd.grad(expected, tables, above)
    )
