"""How many times faster than real time a voice speaks on one core, with the spectral correction and without.

Both take turns in one process, on the mel of one clip; loading is not counted.

python benchmarks/voice_speed.py [VOICE] [--clip FILE] [--turns N] [--engine E]
"""

import argparse
import statistics
import time
from pathlib import Path

import soundfile

import gru_audio

CLIP = Path(__file__).parent.parent / "samples" / "ru-nsh-0045.flac"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("voice", nargs="?", default="debian-16k")
    parser.add_argument("--clip", type=Path, default=CLIP)
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--engine", default="int8")
    options = parser.parse_args()
    vocoders = {
        "corrected": gru_audio.load(options.voice, engine=options.engine),
        "alone": gru_audio.load(options.voice, engine=options.engine, corrections=0),
    }
    audio, rate = soundfile.read(options.clip, always_2d=True)
    mel = vocoders["alone"].mel(audio.mean(1), rate)
    speeds: dict[str, list[float]] = {name: [] for name in vocoders}
    for turn in range(options.turns):
        for name, vocoder in vocoders.items():
            began = time.perf_counter()
            made = vocoder.synthesize(mel, seed=turn)
            speeds[name].append(made.size / vocoder.sample_rate / (time.perf_counter() - began))
    for name, found in speeds.items():
        print(f"{name}: {statistics.median(found):.1f} x real time, best {max(found):.1f}")


if __name__ == "__main__":
    main()
