"""What a voice makes of pitch, and what a long-term predictor would: python benchmarks/pitch_use.py VOICE DATASET.

Held-out clips are made free-running with the lags of the voice's own pitch head, with those of the labels, and with
none. Beside it, how many bits a sample a least-squares predictor of the excitation from itself one lag ago would save
at most, its taps fitted on the frame itself, which no decoder can, and on the frames before. Needs pesq.
"""

import argparse
import dataclasses
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import numpy as np
import numpy.typing as npt

import gru_audio
from gru_audio.arrays import FloatArray
from gru_audio.config import Config
from gru_audio.quality.material import Original, find_originals
from gru_audio.quality.measures import pesq
from gru_audio.signal.codec import pre_emphasis, run_closed_loop
from gru_audio.signal.lpc import frame_filters
from gru_audio.signal.mulaw import expansion_table
from gru_audio.signal.pitch import track_pitch
from gru_audio.synthesis.frontend import FrameBlock, FrontEnd
from gru_audio.synthesis.vocoder import Vocoder

Lags = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]

FITTED_FRAMES = 2
"""Frames before, on which taps are fitted."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("voice", type=Path)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--clips", type=int, default=24)
    given = parser.parse_args()
    vocoder = gru_audio.load(given.voice, corrections=0)
    clips, _ = find_originals(given.dataset, given.clips)
    for kind in ("own", "labels", "none"):
        scores = [free_run(vocoder, clip, kind) for clip in clips]
        raw, corrected = (statistics.fmean(some) for some in zip(*scores, strict=True))
        print(f"lags: {kind:8} PESQ {corrected:.2f}, of the network alone {raw:.2f}")
    for n_taps in (1, 3):
        gains = np.concatenate([frame_gains(vocoder, clip, n_taps) for clip in clips])  # (F, 2)
        ahead, behind = gains.mean(0)
        best = np.maximum(gains, 0).mean(0)[1]
        print(
            f"{n_taps} taps: {ahead:.3f} bits a sample fitted on the frame itself, {behind:.3f} on those before, "
            f"{best:.3f} with a perfect switch"
        )


def free_run(vocoder: Vocoder, clip: Original, kind: str) -> tuple[float, float]:
    """PESQ of the network alone and corrected."""
    audio, config = clip.audio, vocoder.config
    mel = vocoder.mel(audio, clip.sample_rate_hz)
    lags = labels(audio, len(mel), config)
    with with_lags(None if kind == "own" else lags * (kind == "labels")):
        (made,) = vocoder.synthesize_both([mel])
    first, second = (pesq(audio, made[: audio.size], vocoder.sample_rate) for made in (made.raw, made.audio))
    return first, second


def labels(audio: FloatArray, n_frames: int, config: Config) -> Lags:
    """(F,) as `prep` makes them."""
    mel = config.mel
    return track_pitch(
        audio, mel.sample_rate_hz, hop_samples=mel.hop_samples, n_frames=n_frames,
        lag_min_samples=config.lag_min_samples, lag_max_samples=config.lag_max_samples, lead_samples=mel.lead_samples,
    ).astype(np.int64)  # fmt: skip


@contextmanager
def with_lags(lags: Lags | None) -> Iterator[None]:
    """Streams take these in place of their own; silence follows."""
    if lags is None:
        yield
        return
    plain, done = FrontEnd.push, 0

    def push(front_end: FrontEnd, mel: FloatArray, linear: FloatArray | None = None) -> FrameBlock:
        nonlocal done
        block = plain(front_end, mel, linear)
        some = np.zeros(len(block), np.int64)
        given = lags[done : done + len(block)]
        some[: len(given)] = given
        done += len(block)
        return dataclasses.replace(block, lags=some)

    with mock.patch.object(FrontEnd, "push", push):
        yield


def frame_gains(vocoder: Vocoder, clip: Original, n_taps: int) -> Doubles:
    """(F, 2) bits a sample that taps save in each frame, fitted on itself and on those before; 0 where unvoiced."""
    config, hop = vocoder.config, vocoder.mel_config.hop_samples
    audio = clip.audio[: clip.audio.size // hop * hop]
    mel = vocoder.mel(audio, clip.sample_rate_hz)
    filters = frame_filters(mel, config.mel, config.signal)
    codes = run_closed_loop(pre_emphasis(audio, config.signal.preemphasis), filters, config.signal).target
    scale = np.repeat(filters.excitation_scale.astype(np.float64), hop)
    excitation = expansion_table(config.signal.n_classes)[codes].astype(np.float64) * scale[: codes.size]
    offsets, gains = np.arange(n_taps) - n_taps // 2, np.zeros((len(mel), 2))

    def past(samples: npt.NDArray[np.int64], lag: int) -> Doubles:
        """(n, taps): what lies about a lag before each sample."""
        return np.asarray(excitation[np.minimum(samples[:, None] - lag + offsets, samples[:, None] - 1)])

    for frame, lag in enumerate(labels(audio, len(mel), config)):
        here = np.arange(frame * hop, (frame + 1) * hop)
        before = np.arange((frame - FITTED_FRAMES) * hop, frame * hop)
        if not lag or before[0] - lag < n_taps:
            continue
        for i, fitted in enumerate((here, before)):
            taps = np.linalg.lstsq(past(fitted, lag), excitation[fitted], rcond=1e-6)[0]
            left = excitation[here] - past(here, lag) @ taps
            gains[frame, i] = 0.5 * np.log2(
                (np.sum(excitation[here] ** 2) + 1e-12) / (np.sum(left**2) + 1e-12)
            )
    return gains


if __name__ == "__main__":
    main()
