"""Fine-tuning: from a voice's weights to a better one on other clips, its origin told, its blocks kept."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from support.trained import logged, make_dataset, run_to_end, small_config, stop_at
from typer.testing import CliRunner

from gru_audio.arrays import FloatArray, Made
from gru_audio.cli import app
from gru_audio.config import Config, load_config, with_overrides
from gru_audio.data.dataset import Dataset
from gru_audio.errors import CheckpointError, GruAudioError, TrainingError
from gru_audio.network.blocks import READOUT_WEIGHT, RECURRENT_WEIGHT
from gru_audio.synthesis.sampling import CANDIDATES
from gru_audio.training.batches.crops import CropSource
from gru_audio.training.fine_tuning import FINE_TUNING, StartingVoice
from gru_audio.training.judging import free_running
from gru_audio.training.judging.free_running import FreeRunning, Synthesizer
from gru_audio.training.result import TrainResult
from gru_audio.training.run import train
from gru_audio.training.saved.checkpoint import load_checkpoint
from gru_audio.voice.run_folder import checkpoint_paths
from gru_audio.voice.voice import Voice, load_voice, save_voice

# Blocks are 4 columns wide: 2, 2 and 5 of 10 are kept, and of the readout's 8.
PRUNED = (
    "model.gru_size=40",
    "model.recurrent_density=[0.2, 0.2, 0.5]",
    "model.readout_density=0.5",
    "train.steps=80",
    "train.learning_rate=1e-2",
    "train.prune_start_step=10",
    "train.prune_end_step=40",
    "train.prune_every=10",
    "train.stages=[{from_step=40, batch_size=3, crop_samples=800}]",
    "train.log_every=40",
    "train.valid_every=40",
    "train.checkpoint_every=40",
)
TUNING = (
    "train.steps=24",
    "train.learning_rate=1e-2",
    "train.workers=0",
    "train.free_running_every=0",
    "train.warm_up_steps=5",
    "train.log_every=1",
    "train.valid_every=12",
    "train.checkpoint_every=12",
)


@pytest.fixture(scope="module")
def low(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Low buzzes."""
    return make_dataset(tmp_path_factory.mktemp("low"), 80, 90, 100, 110, 120, 130)


@pytest.fixture(scope="module")
def voice_run(low: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sparse voice of low buzzes."""
    run = tmp_path_factory.mktemp("voice") / "low"
    run_to_end(low, run, *PRUNED)
    return run


@pytest.fixture(scope="module")
def high(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Higher buzzes under another licence."""
    return make_dataset(tmp_path_factory.mktemp("high"), 260, 280, 300, 320, 340, 360, licence="CC BY 4.0")


def fine_tune(voice: Path, dataset: Path, run: Path, *overrides: str, **options: object) -> TrainResult:
    start = StartingVoice.read(voice)
    config = with_overrides(start.config, [*TUNING, *overrides])
    return train(dataset, run, config, start=start, device="cpu", threads=1, **options)  # type: ignore[arg-type]


def away_from(start: Voice, dataset: Path, config: Config) -> Synthesizer:
    """Makes the clips themselves, in noise that grows with a voice's distance from the one it began as."""
    clips: list[FloatArray] = []

    def synthesize(voice: Voice, mels: Sequence[FloatArray]) -> list[Made]:
        moved = (np.abs(voice.tensors[name] - tensor).mean() for name, tensor in start.tensors.items())
        level, random = np.float32(1e-3 + sum(moved)), np.random.default_rng(0)
        noisy = [clip + level * random.standard_normal(clip.size, np.float32) for clip in clips]
        return [Made(audio, audio) for audio in noisy]

    clips += [clip.audio for clip in FreeRunning(Dataset.open(dataset), config, synthesize).clips]
    return synthesize


@pytest.fixture(scope="module")
def tuned_run(voice_run: Path, high: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("tuned") / "run"
    fine_tune(voice_run, high, run)
    return run


def test_it_gets_better_than_the_voice_was(voice_run: Path, tuned_run: Path) -> None:
    """And starts far better than random weights do."""
    bits = {line["step"]: line["bits"] for line in logged(tuned_run, "valid")}
    assert list(bits) == [0, 12, 24]
    assert bits[0] < logged(voice_run, "valid")[0]["bits"] - 0.1
    assert bits[24] < bits[0] - 0.1
    assert load_voice(tuned_run).metadata["validation"]["bits"] == min(bits[12], bits[24])


@pytest.mark.parametrize("free_running_every", [0, 4])
def test_a_run_that_gets_worse_keeps_the_voice_it_began_with(
    voice_run: Path,
    low: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    free_running_every: int,
) -> None:
    """By its free runs, and without them by its loss: on the voice's own clips, at a rate that ruins it."""
    monkeypatch.setattr(free_running, "has_pesq", lambda: False)  # the log-mel distance is quicker
    ruin = (
        *("train.learning_rate=1e-1", "train.warm_up_steps=0", "train.steps=16", "train.average_decay=0"),
        *("train.valid_every=4", f"train.free_running_every={free_running_every}", "train.patience=1"),
    )
    start = load_voice(voice_run)
    config = with_overrides(StartingVoice.read(voice_run).config, [*TUNING, *ruin])
    speaks = away_from(start, low, config)
    result = fine_tune(voice_run, low, tmp_path / "run", *ruin, synthesize=speaks)
    bits = {line["step"]: line["bits"] for line in logged(tmp_path / "run", "valid")}
    assert min(bits, key=bits.__getitem__) == 0, bits
    assert (result.keeps_the_start, result.step) == (True, 16), "patience begins where a step was better"
    made = load_voice(tmp_path / "run")
    for name, tensor in start.tensors.items():
        np.testing.assert_array_equal(made.tensors[name], tensor, err_msg=name)
    assert (made.metadata["steps"], made.metadata["fine_tuned_from"]["name"]) == (0, "low")
    if free_running_every:
        scores = {line["step"]: line["log_mel_db"] for line in logged(tmp_path / "run", "free_running")}
        assert list(scores) == [0, 4, 8, 12, 16]
        assert min(scores, key=scores.__getitem__) == 0


def test_statistics_and_blocks_are_the_voices_own(voice_run: Path, tuned_run: Path) -> None:
    before, after = load_voice(voice_run).tensors, load_voice(tuned_run).tensors
    assert before.keys() == after.keys()
    for name in ("mel_mean", "mel_std"):
        np.testing.assert_array_equal(after[name], before[name])
    for name, least, most in ((RECURRENT_WEIGHT, 0.2, 0.4), (READOUT_WEIGHT, 0.49, 0.51)):
        np.testing.assert_array_equal(after[name] != 0, before[name] != 0)
        assert least < np.mean(after[name] != 0) < most
        assert not np.array_equal(after[name], before[name])


def test_statistics_are_computed_of_new_runs_alone(
    voice_run: Path, high: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a voice, and of a checkpoint, they are there."""
    computed, compute = list[int](), CropSource.mel_statistics

    def counted(source: CropSource) -> tuple[FloatArray, FloatArray]:
        computed.append(1)
        return compute(source)

    monkeypatch.setattr(CropSource, "mel_statistics", counted)
    fine_tune(voice_run, high, tmp_path / "tuned", "train.steps=3")
    run_to_end(high, tmp_path / "new", "train.steps=3")
    assert len(computed) == 1
    run_to_end(high, tmp_path / "new", "train.steps=4", resume=True)
    assert len(computed) == 1


def test_where_it_comes_from_is_told(voice_run: Path, tuned_run: Path) -> None:
    told, origin = load_voice(tuned_run).metadata, load_voice(voice_run).metadata
    assert told["licence"] == "CC BY 4.0 and CC0"
    kept = ("steps", "licence", "dataset", "speakers", "training_hours", "source_note")
    expected = {key: origin[key] for key in kept}
    assert told["fine_tuned_from"] == {"name": "low", **expected}
    again = StartingVoice.read(tuned_run / "voice.safetensors").provenance
    assert (again["name"], again["fine_tuned_from"]["name"]) == ("run", "low")


def test_it_is_drawn_as_the_voice_that_it_began_with(voice_run: Path, high: Path, tmp_path: Path) -> None:
    """Also when it stops before ways of drawing are tried, and when it goes on."""
    start, sampling = load_voice(voice_run), CANDIDATES[3].told()
    save_voice(
        tmp_path / "start.safetensors",
        Voice(start.config, start.tensors, {**start.metadata, "sampling": sampling}),
    )
    fine_tune(tmp_path / "start.safetensors", high, tmp_path / "run", progress=stop_at(12))
    assert load_voice(tmp_path / "run").metadata["sampling"] == sampling
    (tmp_path / "run" / "voice.safetensors").unlink()
    config = with_overrides(StartingVoice.read(voice_run).config, TUNING)
    assert train(high, tmp_path / "run", config, resume=True, device="cpu", threads=1).finished
    assert load_voice(tmp_path / "run").metadata["sampling"] == sampling


def test_the_voices_settings_as_they_were_at_its_end(voice_run: Path) -> None:
    config = StartingVoice.read(voice_run).config
    train_table = config.train
    assert (train_table.batch_size, train_table.crop_samples, train_table.stages) == (3, 800, ())
    assert train_table.pitch_handover_step == 0
    assert train_table.code_noise == StartingVoice.read(voice_run).voice.config.train.code_noise
    assert {name: getattr(train_table, name) for name in FINE_TUNING} == FINE_TUNING
    assert (config.model, config.mel) == (small_config(*PRUNED).model, small_config().mel)


@pytest.mark.parametrize("stop", [1, 12])
def test_it_resumes_exactly_without_the_voice(
    voice_run: Path, high: Path, tuned_run: Path, tmp_path: Path, stop: int
) -> None:
    fine_tune(voice_run, high, tmp_path, progress=stop_at(stop))
    config = with_overrides(StartingVoice.read(voice_run).config, TUNING)
    if stop == 1:  # as after a kill: only what was written before the first step is left
        for path in checkpoint_paths(tmp_path)[1:]:
            path.unlink()
    assert train(high, tmp_path, config, resume=True, device="cpu", threads=1).finished
    expected, found = (load_checkpoint(checkpoint_paths(run)[-1]) for run in (tuned_run, tmp_path))
    assert expected.document["fine_tuned_from"] == found.document["fine_tuned_from"] is not None
    for group in ("network", "average", "optimizer", "masks"):
        for name, tensor in expected.groups[group].items():
            assert tensor.equal(found.groups[group][name]), f"{group}/{name}"


def test_an_unfinished_voice_is_pruned_at_once(voice_run: Path, high: Path, tmp_path: Path) -> None:
    """One whose run ended before its blocks were chosen."""
    voice = load_voice(voice_run)
    dense = voice.tensors[RECURRENT_WEIGHT] + np.float32(1e-3)
    save_voice(
        tmp_path / "dense.safetensors", Voice(voice.config, {**voice.tensors, RECURRENT_WEIGHT: dense})
    )
    fine_tune(tmp_path / "dense.safetensors", high, tmp_path / "run", "train.steps=2")
    kept = load_voice(tmp_path / "run").tensors[RECURRENT_WEIGHT] != 0
    np.testing.assert_array_equal(kept, voice.tensors[RECURRENT_WEIGHT] != 0)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "model.gru_size=36",
            "voice 'low': its [model] cannot change (gru_size 36, not 40); leave that table as it is but for densities "
            "and a larger gru_size",
        ),
        ("signal.bits=7", "its [signal] cannot change (bits 7, not 8)"),
        ("mel.floor=1e-4", "its [mel] cannot change (floor 0.0001, not 1e-05)"),
    ],
)
def test_what_cannot_change(voice_run: Path, high: Path, tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(TrainingError) as caught:
        fine_tune(voice_run, high, tmp_path / "run", override)
    assert message in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_voice_that_lacks_a_tensor(voice_run: Path, high: Path, tmp_path: Path) -> None:
    voice = load_voice(voice_run)
    tensors = {name: tensor for name, tensor in voice.tensors.items() if name != "mel_std"}
    save_voice(tmp_path / "v.safetensors", Voice(voice.config, tensors))
    with pytest.raises(
        CheckpointError, match="voice 'v': its tensors are not those that its config asks for"
    ):
        fine_tune(tmp_path / "v.safetensors", high, tmp_path / "run")


@pytest.mark.parametrize("name", [RECURRENT_WEIGHT, READOUT_WEIGHT])
def test_a_voice_that_is_not_pruned_yet(voice_run: Path, high: Path, tmp_path: Path, name: str) -> None:
    """One whose config says pruned, and whose weights are all there: the run prunes it, when it is told to."""
    voice = load_voice(voice_run)
    dense = {**voice.tensors, name: voice.tensors[name] + np.float32(1e-3)}
    save_voice(tmp_path / "dense.safetensors", Voice(voice.config, dense, voice.metadata))
    starts = [StartingVoice.read(path) for path in (voice_run, tmp_path / "dense.safetensors")]
    assert [start.is_pruned for start in starts] == [True, False]
    steps = ("train.prune_start_step=8", "train.prune_end_step=16", "train.prune_every=4")
    fine_tune(tmp_path / "dense.safetensors", high, tmp_path / "run", *steps)
    kept = [
        float((load_checkpoint(path).groups["network"][name] != 0).float().mean())
        for path in checkpoint_paths(tmp_path / "run")
    ]
    assert kept[0] > kept[-1] > 0  # after 12 steps and after 24


def test_a_dense_voice_can_be_pruned_later(low: Path, high: Path, tmp_path: Path) -> None:
    """Nothing of it was settled before the first step: a run that was stopped prunes from where it is told to."""
    run_to_end(low, tmp_path / "dense", "model.gru_size=40", "train.steps=4", "train.valid_every=4")
    fine_tune(tmp_path / "dense", high, tmp_path / "run", progress=stop_at(12))
    densities = (
        *("model.recurrent_density=[0.2, 0.2, 0.5]", "model.readout_density=0.5"),
        *("train.prune_start_step=14", "train.prune_end_step=20", "train.prune_every=2"),
    )
    config = with_overrides(StartingVoice.read(tmp_path / "dense").config, [*TUNING, *densities])
    train(high, tmp_path / "run", config, resume=True, device="cpu", threads=1)
    network = load_checkpoint(checkpoint_paths(tmp_path / "run")[-1]).groups["network"]
    kept = [float((network[name] != 0).float().mean()) for name in (RECURRENT_WEIGHT, READOUT_WEIGHT)]
    assert kept == pytest.approx([0.3, 0.5], abs=0.06)


# The command


Run = Callable[..., tuple[int, str]]


@pytest.fixture
def command(voice_run: Path, tmp_path: Path) -> Run:
    def run(dataset: Path, *arguments: str) -> tuple[int, str]:
        call = ["train", str(dataset), "-o", str(tmp_path / "run"), "--init", str(voice_run), *arguments]
        result = CliRunner().invoke(app, [*call, "--device", "cpu", "--threads", "1"])
        error = result.exception
        return result.exit_code, str(error) if isinstance(error, GruAudioError) else result.output

    return run


def test_the_command(command: Run, high: Path, tmp_path: Path) -> None:
    settings = [
        part
        for value in (*TUNING, "train.steps=2", "train.free_running_every=0")
        for part in ("--set", value)
    ]
    code, output = command(high, *settings)
    assert (code, "step 2 of 2" in output) == (0, True), output
    assert load_voice(tmp_path / "run").metadata["fine_tuned_from"]["name"] == "low"


def test_a_config_that_says_little(command: Run, high: Path, voice_run: Path, tmp_path: Path) -> None:
    """What a file leaves out is the voice's, its [model] too, or fine-tuning's own."""
    config = tmp_path / "few.toml"
    config.write_text("\n".join(["[train]", *(value.removeprefix("train.") for value in TUNING)]), "utf-8")
    code, output = command(high, "--config", str(config), "--set", "train.steps=2")
    assert code == 0, output
    made, voice = load_voice(tmp_path / "run").config, load_voice(voice_run).config
    assert (made.model, made.signal) == (voice.model, voice.signal)
    assert made.train.patience == FINE_TUNING["patience"]


def test_another_mel_contract_is_named(command: Run, tmp_path: Path) -> None:
    """Of the clips, in one line that says what differs."""
    other = make_dataset(tmp_path, 200, 220, 240, overrides=("mel.n_mels=24", "mel.floor=1e-4"))
    code, message = command(other)
    assert code == 1
    assert (
        "made with another mel contract than the voice 'low' (n_mels 24, not 20; floor 0.0001, not 1e-05)"
        in message
    )
    assert "\n" not in message
    assert not (tmp_path / "run").exists()
    told = re.search(r"prepare it again with the voice's \[mel\], which --config (\S+) has", message)
    assert told
    assert load_config(told[1]).mel == small_config().mel


def test_a_config_beside_a_voice_may_be_anothers(voice_run: Path, tmp_path: Path) -> None:
    """Such as that of a TTS, where the voice was copied out of its run."""
    copied = tmp_path / "voice.safetensors"
    copied.write_bytes((voice_run / "voice.safetensors").read_bytes())
    other = make_dataset(tmp_path, 200, 220, 240, overrides=("mel.n_mels=24",))
    for beside in ("[mel]\nn_mels = 24\n", "[tts]\n"):
        (tmp_path / "config.toml").write_text(beside)
        start = StartingVoice.read(copied)
        with pytest.raises(TrainingError, match=r"prepare it again with the voice's \[mel\]$"):
            start.require_fit(start.config, Dataset.open(other))


def test_init_and_resume(command: Run, high: Path) -> None:
    code, output = command(high, "--resume")
    assert code == 2
    assert "--init" in output
