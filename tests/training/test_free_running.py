"""Free-running validation: its clips, figures and pictures; the best voice is the one that sounds best."""

import importlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from support.trained import RATE_HZ, logged, make_dataset, run_to_end, small_config, stop_at

from gru_audio.arrays import FloatArray, Made
from gru_audio.data.dataset import Dataset
from gru_audio.data.stored.clips import Clip
from gru_audio.synthesis.vocoder import Vocoder
from gru_audio.training.judging import free_running
from gru_audio.training.judging.free_running import FreeRunning, Score, choose_clips, comparison_picture
from gru_audio.training.saved.checkpoint import load_checkpoint
from gru_audio.voice.run_folder import checkpoint_paths, sample_paths
from gru_audio.voice.voice import Voice, load_voice

FREE = (
    "train.free_running_every=2",
    "train.free_running_clips=2",
    "train.steps=7",
    "train.checkpoints_kept=1",
    "train.learning_rate=1e-2",
)


def with_float32(voice: Voice, mels: Sequence[FloatArray]) -> list[Made]:
    made = [Vocoder(voice, "float32", corrections=n).synthesize_batch(mels, seed=0) for n in (1, 0)]
    return [Made(*parts) for parts in zip(*made, strict=True)]


class Stub:
    """Makes the clips themselves, with noise of a level that each call is told, and twice as much in the raw ones."""

    def __init__(self, clips: Sequence[FloatArray], levels: Sequence[float]) -> None:
        self.clips, self.levels = clips, iter(levels)
        self.steps: list[int] = []

    def __call__(self, voice: Voice, mels: Sequence[FloatArray]) -> list[Made]:
        self.steps.append(voice.metadata["steps"])
        rng, level = np.random.default_rng(0), next(self.levels)
        noise = [level * rng.standard_normal(clip.size).astype(np.float32) for clip in self.clips]
        return [Made(clip + some, clip + 2 * some) for clip, some in zip(self.clips, noise, strict=True)]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("free"), 90, 100, 110, 120, 130, 140, 150, 160, n_speakers=2)


@pytest.fixture
def clips(dataset: Path) -> list[FloatArray]:
    held_out = FreeRunning(Dataset.open(dataset), small_config(*FREE), with_float32).clips
    return [clip.audio for clip in held_out]


@pytest.fixture
def no_pesq(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if it were not installed: the noise is then ranked by the log-mel distance, which is quick."""
    monkeypatch.setattr(free_running, "has_pesq", lambda: False)


@pytest.fixture(scope="module")
def whole_run(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("whole") / "run"
    run_to_end(dataset, run, *FREE, synthesize=with_float32)
    return run


# Clips and scores


def clip(name: str, speaker: str, seconds: float) -> Clip:
    return Clip(name, speaker, "", round(seconds * RATE_HZ), "valid")


def test_clips_are_of_every_speaker_in_turn() -> None:
    clips = [
        clip("a1", "a", 3), clip("a2", "a", 1), clip("a3", "a", 4), clip("a4", "a", 5), clip("b1", "b", 7),
        clip("b2", "b", 6), clip("c1", "c", 0.5),
    ]  # fmt: skip
    chosen = [clip.name for clip in choose_clips(clips, small_config("train.free_running_clips=4"))]
    assert chosen == ["a1", "b2", "c1", "a3"]
    everything = choose_clips(clips, small_config("train.free_running_clips=20"))
    assert [clip.name for clip in everything] == ["a1", "b2", "c1", "a3", "a4"]


def test_scores() -> None:
    figures = {"pesq": 2.0, "log_mel_db": 5.0, "silence_db": 1.0}
    score = Score.of(figures, 3)
    assert score == Score("pesq", 2.0, 3)
    assert score.beats(None)
    assert score.beats(Score("pesq", 1.9, 2))
    assert not score.beats(Score("pesq", 2.0, 2)), "the older of two equal ones stays"
    assert Score("log_mel_db", 4.0, 3).beats(Score("log_mel_db", 4.1, 2))
    assert not Score("log_mel_db", 4.0, 3).beats(Score("log_mel_db", 3.9, 2))
    assert score.beats(Score("log_mel_db", 1.0, 2)), "what cannot be compared is left behind"
    assert Score.of({"silence_db": 1.0}, 3) is None


def test_a_picture() -> None:
    reference = np.array([[0, 1], [2, 4], [4, 0]], np.float32)  # (F, M)
    picture = comparison_picture(reference, np.full((3, 2), 9, np.float32))
    assert picture.shape == (3, 10, 3)
    assert picture.dtype == np.uint8
    assert picture[:, 3, 0].tolist() == [0, 0, 0], "the lowest band is at the bottom of the upper half"
    assert picture[:, 0, 1].tolist() == [255, 255, 255]
    assert picture[:, 3, 1].tolist() == [255, 127, 0]
    assert (picture[:, 4:] == 255).all(), "what is too loud is white"


# Runs


def test_figures_audio_and_pictures(dataset: Path, whole_run: Path) -> None:
    lines = logged(whole_run, "free_running")
    assert [line["step"] for line in lines] == [2, 4, 6, 7]
    assert {"pesq", "log_mel_db", "silence_db", "voicing_error_percent"} <= lines[-1].keys()
    assert 0 < lines[-1]["log_mel_db"] < 60
    best = max(lines, key=lambda line: line["pesq"])
    voice = load_voice(whole_run)
    assert voice.metadata["steps"] == best["step"]
    assert voice.metadata["validation"]["pesq"] == best["pesq"]
    assert "bits" in voice.metadata["validation"]

    assert set(sample_paths(whole_run)) == {7, best["step"]}
    held_out = FreeRunning(Dataset.open(dataset), small_config(*FREE), with_float32).clips
    names = {path.name for path in (whole_run / "samples").glob("*7-*.wav")}
    assert names == {f"step-000000007-{clip.name}.wav" for clip in held_out}
    assert len(list((whole_run / "samples").glob("reference-*.wav"))) == len(held_out) == 2

    reader = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")  # has no types
    board = reader.EventAccumulator(str(whole_run / "tensorboard"))
    board.Reload()
    tags = board.Tags()
    assert set(tags["audio"]) == set(tags["images"]) == {f"free_running/{clip.name}" for clip in held_out}
    assert [event.step for event in board.Audio(tags["audio"][0])] == [2, 4, 6, 7]
    picture = board.Images(tags["images"][0])[-1]
    assert (picture.width, picture.height) == (len(held_out[0].mel), 4 * 20 + 2)


@pytest.mark.parametrize("stop", [3, 4])
def test_resume_is_exact(dataset: Path, whole_run: Path, tmp_path: Path, stop: int) -> None:
    """Between two free runs, and at one."""
    run_to_end(dataset, tmp_path, *FREE, synthesize=with_float32, progress=stop_at(stop))
    assert run_to_end(dataset, tmp_path, *FREE, synthesize=with_float32, resume=True).finished
    assert logged(tmp_path, "free_running") == logged(whole_run, "free_running")
    for name in (
        "voice.safetensors",
        *(str(path.relative_to(whole_run)) for path in checkpoint_paths(whole_run)),
    ):
        assert (tmp_path / name).read_bytes() == (whole_run / name).read_bytes(), name
    ours, theirs = (sorted(run.glob("samples/*")) for run in (tmp_path, whole_run))
    assert [path.name for path in ours] == [path.name for path in theirs]
    assert [path.read_bytes() for path in ours] == [path.read_bytes() for path in theirs]


@pytest.mark.usefixtures("no_pesq")
def test_the_best_is_what_sounds_best(dataset: Path, clips: list[FloatArray], tmp_path: Path) -> None:
    """Not what has the lowest loss, which falls to the end here; and the best one's audio stays."""
    stub = Stub(clips, [0.1, 0.01, 0.05, 0.02])
    run_to_end(dataset, tmp_path, *FREE, synthesize=stub, progress=stop_at(5))
    run_to_end(dataset, tmp_path, *FREE, synthesize=stub, resume=True)
    bits = [line["bits"] for line in logged(tmp_path, "valid")]
    assert bits == sorted(bits, reverse=True)
    assert stub.steps == [2, 4, 6, 7]
    distances = [line["log_mel_db"] for line in logged(tmp_path, "free_running")]
    assert np.argsort(distances).tolist() == [1, 3, 2, 0]
    assert load_voice(tmp_path).metadata["steps"] == 4
    assert set(sample_paths(tmp_path)) == {4, 7}
    document = load_checkpoint(checkpoint_paths(tmp_path)[-1]).document
    assert document["best_score"] == ["log_mel_db", distances[1], 4]


@pytest.mark.usefixtures("no_pesq")
def test_a_voice_from_before_the_last_pruning_is_replaced(
    dataset: Path, clips: list[FloatArray], tmp_path: Path
) -> None:
    pruned = (
        "model.recurrent_density=[0.5, 0.5, 0.5]",
        "train.prune_start_step=1",
        "train.prune_end_step=5",
        "train.prune_every=4",
    )
    run_to_end(dataset, tmp_path, *FREE, *pruned, synthesize=Stub(clips, [0.01, 0.02, 0.05, 0.1]))
    assert load_voice(tmp_path).metadata["steps"] == 6


@pytest.mark.usefixtures("no_pesq")
def test_what_is_measured(dataset: Path, clips: list[FloatArray]) -> None:
    config = small_config(*FREE)
    voice = Voice(config, {}, {"steps": 0})
    clean = FreeRunning(Dataset.open(dataset), config, Stub(clips, [0.0])).run(voice).figures
    assert clean["log_mel_db"] == pytest.approx(0, abs=1e-3)
    assert clean["pitch_cents"] == pytest.approx(0, abs=1e-3)
    assert clean["voicing_error_percent"] == 0
    assert clean["silence_db"] == pytest.approx(0, abs=0.1)
    assert "pesq" not in clean
    noisy = FreeRunning(Dataset.open(dataset), config, Stub(clips, [0.3])).run(voice).figures
    assert noisy["log_mel_db"] > 3
    assert noisy["silence_db"] > 10
    assert noisy["voicing_error_percent"] > 1
    assert clean["raw_log_mel_db"] == pytest.approx(0, abs=1e-3)
    assert noisy["raw_log_mel_db"] > noisy["log_mel_db"] + 1
    assert {name.removeprefix("raw_") for name in noisy} == {name for name in noisy if name[:4] != "raw_"}


def test_it_can_be_off(dataset: Path, tmp_path: Path) -> None:
    run_to_end(dataset, tmp_path, "train.free_running_every=0", "train.steps=1", synthesize=Stub([], []))
    assert logged(tmp_path, "free_running") == []
    assert not (tmp_path / "samples").exists()


def test_pesq_is_seen() -> None:
    assert free_running.has_pesq() == (importlib.util.find_spec("pesq") is not None)


@pytest.mark.usefixtures("no_pesq")
@pytest.mark.parametrize("stop", [None, 5, 6])
def test_patience(dataset: Path, clips: list[FloatArray], tmp_path: Path, stop: int | None) -> None:
    """Two free runs in a row that are no better than the best end the run, wherever it was interrupted before."""
    settings = (*FREE, "train.steps=40", "train.patience=2")
    stub = Stub(clips, [0.1, 0.05, 0.05, 0.07, 0.01])
    if stop is not None:
        run_to_end(dataset, tmp_path, *settings, synthesize=stub, progress=stop_at(stop))
    result = run_to_end(dataset, tmp_path, *settings, synthesize=stub, resume=stop is not None)
    assert (result.finished, result.settled, result.step, result.steps) == (True, True, 8, 40)
    assert load_voice(tmp_path).metadata["steps"] == 4
    again = run_to_end(dataset, tmp_path, *settings, synthesize=stub, resume=True)
    assert (again.settled, again.step) == (True, 8)


@pytest.mark.usefixtures("no_pesq")
def test_where_free_running_is_turned_off_the_loss_decides(
    dataset: Path, clips: list[FloatArray], tmp_path: Path
) -> None:
    """The best free run of a run's first part does not keep its voice from getting better after it."""
    run_to_end(dataset, tmp_path, *FREE, synthesize=Stub(clips, [0.05, 0.01, 0.02, 0.03]))
    assert load_voice(tmp_path).metadata["steps"] == 4
    off = ("train.steps=30", "train.free_running_every=0", "train.valid_every=10")
    run_to_end(dataset, tmp_path, *FREE, *off, resume=True)
    bits = {line["step"]: line["bits"] for line in logged(tmp_path, "valid")}
    assert load_voice(tmp_path).metadata["steps"] == min(bits, key=bits.__getitem__) > 4


@pytest.mark.usefixtures("no_pesq")
def test_patience_begins_when_the_blocks_are_settled(
    dataset: Path, clips: list[FloatArray], tmp_path: Path
) -> None:
    pruned = (
        "model.gru_size=40",
        "model.recurrent_density=[0.2, 0.2, 0.5]",
        "train.prune_start_step=1",
        "train.prune_end_step=6",
        "train.prune_every=1",
    )
    settings = (*FREE, *pruned, "train.steps=40", "train.patience=1")
    stub = Stub(clips, [0.01, 0.02, 0.05, 0.06, 0.01])
    result = run_to_end(dataset, tmp_path, *settings, synthesize=stub)
    assert (result.settled, result.step) == (True, 8)
