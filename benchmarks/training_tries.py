"""What could make a voice better, each thing tried for the same time:

    python benchmarks/training_tries.py DATASET [--steps 600] [--out DIR] [--judged DATASET] [--only NAME]...

A try changes one thing of a base: the preset `voice-16k`, dense, in batches of 16 x 800. Each gets the time of so many
of the base's training steps, on one thread. How many of its own those are, a few of both, taken in turns beforehand,
tell: so its schedules end with it, and a busy machine is as slow for all. Then it makes held-out clips, free-running,
with and without the spectral correction.

Each try's figures are kept in DIR and not made again; `--only NAME` makes one. The table of those that are there is
shown. What they show is told in docs/tries.md. Needs pesq.
"""

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.signal import istft, stft

from gru_audio.arrays import FloatArray, Made
from gru_audio.config import CONTEXT_FRAMES, Config, load_config
from gru_audio.data.dataset import Dataset
from gru_audio.data.stored.clips import Clip, Clips
from gru_audio.files import atomic_path
from gru_audio.network.cpu.memory import keep_freed_memory
from gru_audio.synthesis.vocoder import Vocoder
from gru_audio.training.batches.crops import CropSource
from gru_audio.training.judging.exporting import voice_of
from gru_audio.training.judging.free_running import FreeRunning
from gru_audio.training.judging.validation import Validation
from gru_audio.training.learner import Learner
from gru_audio.voice.voice import Voice

CPU = torch.device("cpu")
N_CLIPS = 12
N_TIMED_STEPS = 8
BASE = (
    "model.recurrent_density=[1.0,1.0,1.0]", "train.stages=[]", "train.batch_size=16", "train.crop_samples=800",
    "train.learning_rate=1.5e-3", "train.warm_up_steps=100", "train.workers=0", f"train.free_running_clips={N_CLIPS}",
)  # fmt: skip
HANDOVER, PRUNING_BEGINS, PRUNING_ENDS = 0.15, 0.3, 0.6
"""Of a run's steps: until when labels stand in for the pitch head, and between which blocks go."""

GAIN, POLARITY = "train.augment_gain_db=[-20.0,9.0]", "train.augment_polarity=true"
FILTERS, SPEED = "train.augment_filter_db=3.0", "train.augment_speed=0.1"


@dataclass(frozen=True)
class Try:
    """A change to the base.

    Attributes:
        overrides: of the config.
        handover: as `HANDOVER`; above 1 labels to the end.
        beta2: of AdamW.
        clean_weight: how often a run's round visits the clips that were never G.722; 0 leaves all others out.
        gated: keep G.722's hiss out of what is trained on: see `without_hiss`.
    """

    overrides: tuple[str, ...] = ()
    handover: float = HANDOVER
    beta2: float = 0.999
    clean_weight: int = 1
    gated: bool = False


TRIES = {
    "base": Try(),
    "base, another seed": Try(("train.seed=1",)),
    "pitch: labels to the end": Try(handover=2.0),
    "pitch: own estimates from the start": Try(handover=0.0),
    "learning rate 3e-3": Try(("train.learning_rate=3e-3",)),
    "learning rate 7.5e-4": Try(("train.learning_rate=7.5e-4",)),
    "batch 32 x 800": Try(("train.batch_size=32",)),
    "batch 16 x 1600": Try(("train.crop_samples=1600",)),
    "AdamW, beta2 .98": Try(beta2=0.98),
    "code noise 0": Try(("train.code_noise=0",)),
    "code noise 6": Try(("train.code_noise=6",)),
    "densities .25 .25 .5": Try(("model.recurrent_density=[0.25,0.25,0.5]",)),
    "densities .05 .05 .2": Try(("model.recurrent_density=[0.05,0.05,0.2]",)),
    "one sample a step": Try(("model.samples_per_step=1",)),
    "four samples a step": Try(("model.samples_per_step=4",)),
    "readout 64": Try(("model.readout_size=64",)),
    "readout 256": Try(("model.readout_size=256",)),
    "7 bits": Try(("signal.bits=7",)),
    "9 bits": Try(("signal.bits=9",)),
    "no G.722 in training": Try(clean_weight=0),
    "clips without G.722 four times as often": Try(clean_weight=4),
    "G.722's hiss gated": Try(gated=True),
    "augmented: gain": Try((GAIN,)),
    "augmented: polarity": Try((POLARITY,)),
    "augmented: filters": Try((FILTERS,)),
    "augmented: speed": Try((SPEED,)),
    "augmented: all four": Try((GAIN, POLARITY, FILTERS, SPEED)),
}


@dataclass(frozen=True)
class Result:
    """What came of a try; `cost` is a step's time with the base's as the unit, the figures are those of `Validation`
    and `FreeRunning`."""

    name: str
    steps: int
    cost: float
    figures: dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--steps", type=int, default=600, help="of the base")
    parser.add_argument("--out", type=Path, default=Path("tries"))
    parser.add_argument(
        "--judged", type=Path, help="whose validation clips are spoken, if not the dataset's own"
    )
    parser.add_argument("--clean", default="ru-nsh", help="the speaker whose clips were never G.722")
    parser.add_argument("--only", action="append", choices=TRIES, metavar="NAME", help="of the tries to make")
    given = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    given.out.mkdir(parents=True, exist_ok=True)
    results = []
    for name, change in TRIES.items():
        path = given.out / f"{name.replace(' ', '-')}.json"
        if not path.exists() and (given.only is None or name in given.only):
            dataset = Treated.of(given.dataset, given.clean, change)
            judged = Dataset.open(given.judged or given.dataset)
            made = make(name, change, dataset, judged, given.steps)
            with atomic_path(path) as temporary:
                temporary.write_text(json.dumps({"base_steps": given.steps, **asdict(made)}, indent=1))
        if path.exists():
            kept = json.loads(path.read_text())
            if kept.pop("base_steps") != given.steps:
                raise SystemExit(f"error: {path}: of another --steps; choose another --out")
            results.append(Result(**kept))
    print(table(results))


class Treated(Dataset):
    """A dataset some of whose training clips come up more often, or have their hiss taken out."""

    speaker, change = "", Try()

    @classmethod
    def of(cls, path: Path, speaker: str, change: Try) -> "Treated":
        """Open one; `speaker` is the one whose clips were never G.722."""
        dataset = cls.open(path)
        assert isinstance(dataset, cls)
        dataset.speaker, dataset.change = speaker, change
        return dataset

    def clips(self, split: str | None = None) -> Clips:
        clips = super().clips(split)
        weight = self.change.clean_weight
        if split != "train" or weight == 1:
            return clips
        own = np.flatnonzero([clips.speakers[number] == self.speaker for number in clips.speaker])
        rest = np.arange(len(clips)) if weight else own[:0]
        return clips.chosen(np.concatenate([np.tile(own, abs(weight - 1)), rest]))

    def audio(self, clip: Clip, start: int = 0, stop: int | None = None) -> NDArray[np.int16]:
        if not self.change.gated or clip.split != "train" or clip.speaker == self.speaker:
            return super().audio(clip, start, stop)
        return without_hiss(super().audio(clip))[start:stop]


def without_hiss(pcm: NDArray[np.int16]) -> NDArray[np.int16]:
    """A G.722 clip (T,) at 16 kHz with less noise in its upper band, 4 to 8 kHz, which has two bits a sample.

    Spectral subtraction (Boll, 1979): a bin's noise is the tenth percentile of its magnitude over the clip; twice
    that is taken off, a tenth of the magnitude at least stays.
    """
    size = 512
    spectrum = stft(pcm.astype(np.float32), nperseg=size)[2]
    magnitude = np.abs(spectrum)
    noise = np.percentile(magnitude, 10, axis=1, keepdims=True)
    gain = np.maximum(1 - 2 * noise / np.maximum(magnitude, 1e-9), 0.1)
    gain[: size // 4] = 1
    audio = istft(spectrum * gain, nperseg=size)[1][: pcm.size]
    rounded: NDArray[np.int16] = np.clip(np.round(audio), -32768, 32767).astype(np.int16)
    return rounded


def make(name: str, change: Try, dataset: Dataset, judged: Dataset, base_steps: int) -> Result:
    """Train for the time of the base's steps, and measure."""
    config, base = load_config("voice-16k", [*BASE, *change.overrides]), load_config("voice-16k", BASE)
    cost = relative_cost(
        OnItsWay(dataset, config, change, N_TIMED_STEPS), OnItsWay(dataset, base, Try(), N_TIMED_STEPS)
    )
    one = OnItsWay(dataset, config, change, round(base_steps / cost))
    for _ in range(one.n_steps):
        one.step()
    average = one.learner.average
    fixed = config.model_copy(update={"train": base.train})
    figures = Validation(dataset, fixed, CPU).measure(average)
    voice = voice_of(average, config, dataset, one.n_steps, figures, None)
    figures |= FreeRunning(judged, config, synthesize).run(voice).figures
    return Result(name, one.n_steps, cost, figures)


class OnItsWay:
    """A network on its way through so many steps."""

    def __init__(self, dataset: Dataset, config: Config, change: Try, n_steps: int) -> None:
        schedule = {
            "steps": n_steps,
            "pitch_handover_step": round(change.handover * n_steps),
            "prune_start_step": max(1, round(PRUNING_BEGINS * n_steps)),
            "prune_end_step": max(2, round(PRUNING_ENDS * n_steps)),
            "prune_every": 20,
        }
        config = config.model_copy(update={"train": config.train.model_copy(update=schedule)})
        self.n_steps, self._source = n_steps, CropSource(dataset, config, "train", CONTEXT_FRAMES)
        self.learner = Learner(config, CPU, self._source)
        for group in self.learner.optimizer.param_groups:
            group["betas"] = (0.9, change.beta2)

    def step(self) -> float:
        """Go on by one; returns the CPU seconds, without those of drawing the batch."""
        batch = self._source.batch(self.learner.step).to(CPU)
        began = time.process_time()
        self.learner.train_step(batch)
        return time.process_time() - began


def relative_cost(one: OnItsWay, other: OnItsWay) -> float:
    """How long a step of one takes, with another's as the unit; the first steps warm up."""
    pairs = [(one.step(), other.step()) for _ in range(N_TIMED_STEPS)][2:]
    return statistics.median(time for time, _ in pairs) / statistics.median(time for _, time in pairs)


def synthesize(voice: Voice, mels: Sequence[FloatArray]) -> list[Made]:
    """As `gru-audio train` does it."""
    return Vocoder(voice).synthesize_both(mels)


def table(results: Sequence[Result]) -> str:
    """Markdown, a row for each try."""
    columns = {
        "bits": ("bits", ".3f"),
        "raw PESQ": ("raw_pesq", ".2f"),
        "PESQ": ("pesq", ".2f"),
        "raw log-mel dB": ("raw_log_mel_db", ".2f"),
        "F0 cents": ("raw_pitch_cents", ".0f"),
        "voicing errors %": ("raw_voicing_error_percent", ".1f"),
        "silence dB": ("raw_silence_db", ".1f"),
    }
    lines = [
        f"| try | steps | a step costs | {' | '.join(columns)} |",
        "| --- |" + " --: |" * (2 + len(columns)),
    ]
    for result in results:
        cells = [format(result.figures.get(key, float("nan")), form) for key, form in columns.values()]
        lines.append(f"| {result.name} | {result.steps:,} | {result.cost:.2f} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
