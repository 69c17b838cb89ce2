"""The six figures by which a given mel is judged, and how often the judge is wrong: see signal/mel_check.

Of a dataset's speakers every other one gives mean and covariance, from clips as they are and with peaks of -20 and 0
dBFS; the rest are held out. Of these it is counted which are refused as they are and at several levels, and which are
noticed when they are stored in another way. Folders of other clips are only tested.

python benchmarks/mel_figures.py DATASET [FOLDER ...] [--clips N] [--stored N]
"""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gru_audio.data.dataset import Dataset
from gru_audio.signal.audio import from_int16, resample
from gru_audio.signal.audio_file.reading import read_audio
from gru_audio.signal.mel import log_mel, to_linear
from gru_audio.signal.mel_adapt.levels import frame_levels
from gru_audio.signal.mel_check.judge import MelJudge
from gru_audio.signal.mel_check.tally import MelTally
from gru_audio.voice.bundled import DEFAULT_VOICE
from gru_audio.voice.voice import load_voice

Floats = NDArray[np.float32]

LEVELS: dict[str, float | None] = {
    "as it is": None,
    "-30": -30,
    "-20": -20,
    "-10": -10,
    "0": 0,
    "+6": 6,
    "+12": 12,
}
FITTED = ("as it is", "-20", "0")
DECIBELS = 20 / np.log(10)
STORED: dict[str, Callable[[Floats], Floats]] = {
    "decibels": lambda mel: mel * DECIBELS,
    "log10": lambda mel: mel / np.log(10),
    "decibels mapped to [0, 1]": lambda mel: np.clip((mel * DECIBELS + 100) / 100, 0, 1),
    "magnitudes": np.exp,
    "bands reversed": lambda mel: mel[:, ::-1],
    "rows of bands": lambda mel: mel.T.copy().reshape(mel.shape),
}


def at_level(audio: Floats, level_db: float | None) -> Floats:
    """Audio with that peak, clipped at full scale."""
    if level_db is None:
        return audio
    loud: Floats = np.clip(audio * np.float32(10 ** (level_db / 20) / np.abs(audio).max()), -1, 1)
    return loud


def spoken(dataset: Dataset, n_clips: int) -> tuple[list[Floats], list[Floats]]:
    """So many clips of every other speaker, and of the rest."""
    clips, chosen = dataset.clips(), (list[Floats](), list[Floats]())
    first_half = set(sorted(set(clips.speakers.values()))[::2])
    for index in np.random.default_rng(0).permutation(len(clips)):
        clip = clips[int(index)]
        part = chosen[clip.speaker not in first_half]
        if len(part) < n_clips and clip.n_samples >= 1.2 * dataset.mel.sample_rate_hz:
            audio = from_int16(dataset.audio(clip))
            if np.abs(audio).max() > 1e-3:
                part.append(audio)
        if min(map(len, chosen)) == n_clips:
            break
    return chosen


class Judged:
    """The bundled voice's judge, and mels for it."""

    def __init__(self) -> None:
        voice = load_voice(DEFAULT_VOICE)
        self.config = voice.config.mel
        self.judge = MelJudge(self.config, voice.tensors["mel_mean"], voice.tensors["mel_std"])

    def mels(self, clips: list[Floats], level: str) -> Iterator[Floats]:
        for audio in clips:
            whole = audio[: audio.size // self.config.hop_samples * self.config.hop_samples]
            yield log_mel(at_level(whole, LEVELS[level]), self.config)

    def tally(self, mel: Floats) -> MelTally:
        tally = MelTally(self.config)
        stored = np.asarray(mel, np.float32)
        tally.add(stored, frame_levels(to_linear(stored, self.config), self.config))
        return tally

    def figures(self, mel: Floats) -> NDArray[np.float64]:
        return self.judge.figures(self.tally(mel).bands)

    def refuses(self, mel: Floats) -> bool:
        return self.judge.complaint(self.tally(mel)) is not None

    def print_false_alarms(self, name: str, clips: list[Floats]) -> None:
        counts = [sum(map(self.refuses, self.mels(clips, level))) for level in LEVELS]
        print(f"| {name}, {len(clips)} | {' | '.join(map(str, counts))} |", flush=True)


def read_clips(folder: Path, rate_hz: int) -> list[Floats]:
    """The recordings of a folder, at the contract's rate."""
    read = [read_audio(path) for path in sorted(folder.iterdir()) if path.suffix in (".flac", ".wav")]
    return [resample(audio, file_rate_hz, rate_hz) for audio, file_rate_hz in read]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", type=Path)
    parser.add_argument("folders", type=Path, nargs="*")
    parser.add_argument("--clips", type=int, default=400)
    parser.add_argument(
        "--stored", type=int, default=100, help="held-out clips that are stored in other ways"
    )
    given = parser.parse_args()
    judged, dataset = Judged(), Dataset.open(given.dataset)
    dataset.require_mel(judged.config)
    fitted, held_out = spoken(dataset, given.clips)
    figures = np.array([judged.figures(mel) for level in FITTED for mel in judged.mels(fitted, level)])
    print("mean", figures.mean(0).round(3).tolist())
    print("covariance", np.cov(figures.T).round(3).tolist())
    print(f"| refused | {' | '.join(LEVELS)} |\n|{'---|' * (len(LEVELS) + 1)}")
    judged.print_false_alarms("held out", held_out)
    for folder in given.folders:
        judged.print_false_alarms(folder.name, read_clips(folder, judged.config.sample_rate_hz))
    print(f"| stored as | {' | '.join(FITTED)} |\n|---|---|---|---|")
    for name, store in STORED.items():
        shares = []
        for level in FITTED:
            mels = [store(mel) for mel in judged.mels(held_out[: given.stored], level)]
            shares.append(f"{sum(map(judged.refuses, mels)) / len(mels):.1%}")
        print(f"| {name} | {' | '.join(shares)} |", flush=True)


if __name__ == "__main__":
    main()
