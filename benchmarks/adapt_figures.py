"""What it costs to interpolate mels of other contracts, `--adapt`: the table of docs/mels.md.

Each clip's mel is made under a contract, brought to the voice's and spoken; PESQ compares the audio with the clip.

python benchmarks/adapt_figures.py [FOLDER] [--voice VOICE]
"""

import argparse
from pathlib import Path

import numpy as np

from gru_audio.config import MEL_PRESETS
from gru_audio.folders import find_files
from gru_audio.quality.measures import pesq
from gru_audio.signal.audio import resample
from gru_audio.signal.audio_file.reading import AUDIO_SUFFIXES, read_audio
from gru_audio.signal.mel import log_mel, to_linear
from gru_audio.signal.mel_adapt.fitting import Fitting, fit_mel
from gru_audio.synthesis.vocoder import load
from gru_audio.voice.bundled import DEFAULT_VOICE

ROOT = Path(__file__).parent.parent
HEARD_DB = 60
"""Bands this far below a clip's loudest are not compared."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "samples")
    parser.add_argument("--voice", default=DEFAULT_VOICE)
    options = parser.parse_args()
    vocoder, rows = load(options.voice, "int8"), list[tuple[float, str]]()
    clips = [read_audio(file.path) for file in find_files(options.folder, AUDIO_SUFFIXES, "no audio")]
    wanted = vocoder.mel_config
    for name, contract in MEL_PRESETS.items():
        scores, errors = list[float](), list[float]()
        for audio, rate in clips:
            clip = resample(audio, rate, wanted.sample_rate_hz)
            own = vocoder.mel(clip, wanted.sample_rate_hz)
            mel = log_mel(resample(audio, rate, contract.sample_rate_hz), contract)
            fitting = Fitting(contract, wanted, name, adapt=True)
            fitted = fit_mel(mel, fitting)
            made = vocoder.synthesize(fitted, seed=0, check=False)[fitting.lead_samples :]
            n = min(made.size, clip.size)
            scores.append(pesq(clip[:n], made[:n], wanted.sample_rate_hz))
            levels = [20 * np.log10(to_linear(found, wanted)) for found in (own, fitted)]
            n_frames = min(map(len, levels))
            heard = levels[0][:n_frames] > levels[0].max() - HEARD_DB
            errors.append(float(np.abs(levels[0][:n_frames] - levels[1][:n_frames])[heard].mean()))
        rows.append((float(np.mean(scores)), f"{name}: mel off by {np.mean(errors):.1f} dB"))
    print(f"{len(clips)} clips of {options.folder}, voice {options.voice}")
    for score, text in sorted(rows, reverse=True):
        print(f"{score:.2f}  {text}")


if __name__ == "__main__":
    main()
