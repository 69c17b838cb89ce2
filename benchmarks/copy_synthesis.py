"""How good copy-synthesis sounds, free-running, on clips held out of training:

    python benchmarks/copy_synthesis.py VOICE DATASET [--clips 12] [--temperature 0.8]

Clips of 2 to 6 s come from the dataset's test and valid splits, as evenly from its speakers as may be. PESQ
is wide band (ITU-T P.862.2), ESTOI is Jensen & Taal's (2016); higher is better in both. Beside the voice stand
two anchors from the same mel: Griffin-Lim, and the codec run on the original with no network, which is the
ceiling. For voices at 16 kHz, which is what PESQ knows.
"""

import argparse
import itertools
from pathlib import Path

import librosa
import numpy as np
import pesq
import pystoi
from rich.progress import track

import gru_audio
from gru_audio.audio import from_int16
from gru_audio.codec import de_emphasis, pre_emphasis, run_closed_loop
from gru_audio.config import Config
from gru_audio.dataset import Clip, Dataset
from gru_audio.lpc import frame_filters
from gru_audio.mel import FloatArray, filterbank, to_linear

SHORTEST_S, LONGEST_S = 2.0, 6.0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("voice", type=Path)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--clips", type=int, default=12)
    parser.add_argument("--temperature", type=float, default=1.0)
    arguments = parser.parse_args()
    vocoder, dataset = gru_audio.load(arguments.voice), Dataset.open(arguments.dataset)
    config, rate = vocoder.config, vocoder.sample_rate
    scores: dict[str, list[tuple[float, float]]] = {"voice": [], "griffin-lim": [], "codec": []}
    for clip in track(choose(dataset, arguments.clips), transient=True):
        original = from_int16(dataset.audio(clip))
        mel = vocoder.mel(original, rate)
        made = {
            "voice": vocoder.synthesize(mel, temperature=arguments.temperature),
            "griffin-lim": griffin_lim(mel, config),
            "codec": codec_alone(original, mel, config),
        }
        for name, audio in made.items():
            length = min(len(original), len(audio))
            scores[name].append(score(original[:length], audio[:length], rate))
    print(
        f"{arguments.voice}, {vocoder.metadata.get('steps', 0):,} steps, temperature {arguments.temperature:g}"
    )
    print(f"{'':14}{'PESQ mean':>10}{'worst':>8}{'ESTOI mean':>12}{'worst':>8}")
    for name, pairs in scores.items():
        (mean_pesq, mean_estoi), (worst_pesq, worst_estoi) = np.mean(pairs, 0), np.min(pairs, 0)
        print(f"{name:14}{mean_pesq:10.2f}{worst_pesq:8.2f}{mean_estoi:12.3f}{worst_estoi:8.3f}")


def choose(dataset: Dataset, n_clips: int) -> list[Clip]:
    """Held-out clips, one speaker after the other, each speaker's in the dataset's order."""
    by_speaker: dict[str, list[Clip]] = {}
    for clip in dataset.clips("test") + dataset.clips("valid"):
        if SHORTEST_S <= clip.n_samples / dataset.mel.sample_rate_hz <= LONGEST_S:
            by_speaker.setdefault(clip.speaker.split("/")[0], []).append(clip)
    rounds = itertools.zip_longest(*(by_speaker[speaker] for speaker in sorted(by_speaker)))
    return [clip for clips in rounds for clip in clips if clip is not None][:n_clips]


def score(original: FloatArray, audio: FloatArray, rate: int) -> tuple[float, float]:
    """PESQ and ESTOI."""
    return pesq.pesq(rate, original, audio, "wb"), pystoi.stoi(original, audio, rate, extended=True)


def griffin_lim(mel: FloatArray, config: Config) -> FloatArray:
    """librosa's, from the mel's least-squares magnitudes."""
    filters = filterbank(config.mel)
    linear = to_linear(mel, config.mel).T
    magnitude = np.maximum(np.linalg.pinv(filters) @ linear, 0)
    if config.mel.spectrum == "power":
        magnitude = np.sqrt(magnitude)
    audio = librosa.griffinlim(
        magnitude,
        n_iter=60,
        hop_length=config.mel.hop_samples,
        win_length=config.mel.window_samples,
        random_state=0,
    )
    # librosa centres its frames on multiples of the hop; with padding "same" they lie half a hop later.
    shift = config.mel.hop_samples // 2 - config.mel.lead_samples
    return np.asarray(np.pad(audio, (shift, 0)), np.float32)


def codec_alone(original: FloatArray, mel: FloatArray, config: Config) -> FloatArray:
    """The original through pre-emphasis, linear prediction and mu-law, with no network."""
    signal = pre_emphasis(original, config.signal.preemphasis)
    trace = run_closed_loop(signal, frame_filters(mel, config.mel, config.signal), config.signal)
    return de_emphasis(trace.rebuilt, config.signal.preemphasis)


if __name__ == "__main__":
    main()
