"""The mel of audio that comes piece by piece, against log_mel of the whole: every bit."""

import pickle
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gru_audio.config import MEL_PRESETS, MelConfig
from gru_audio.errors import AudioError
from gru_audio.signal.mel import log_mel
from gru_audio.signal.mel_stream import MelStream

Floats = NDArray[np.float32]

SMALL: dict[str, Any] = {"sample_rate_hz": 8_000, "n_fft": 256, "n_mels": 20, "f_max_hz": 4_000.0}
CONTRACTS = {
    **MEL_PRESETS,
    "small": MelConfig(**SMALL, window_samples=200, hop_samples=64),
    "small-center": MelConfig(**SMALL, window_samples=200, hop_samples=64, padding="center", preemphasis=0.9),
    "odd-window": MelConfig(**SMALL, window_samples=201, hop_samples=64, padding="center"),
    "window-of-a-hop": MelConfig(**SMALL, window_samples=64, hop_samples=64),
    "hop-of-a-frame": MelConfig(**SMALL, window_samples=256, hop_samples=256),
    "two-samples": MelConfig(**SMALL, window_samples=2, hop_samples=2),
}


def noise(n_samples: int) -> Floats:
    return (0.1 * np.random.default_rng(n_samples).standard_normal(n_samples)).astype(np.float32)


def in_pieces(audio: Floats, config: MelConfig, sizes: list[int]) -> list[Floats]:
    """What each push gives, and the end; the sizes go round."""
    stream, parts, first = MelStream(config), list[Floats](), 0
    while first < audio.size:
        size = sizes[len(parts) % len(sizes)]
        parts.append(stream.push(audio[first : first + size]))
        first += size
    return [*parts, stream.finish()]


@pytest.mark.parametrize("name", sorted(CONTRACTS))
@pytest.mark.parametrize("sizes", [[1], [7], [100, 0, 1, 640], [100_000]], ids=str)
def test_pieces_of_any_size_give_the_same_bits(name: str, sizes: list[int]) -> None:
    config = CONTRACTS[name]
    audio = noise(2_700 if sizes == [1] else 20_011)
    expected = log_mel(audio, config)
    found = np.concatenate(in_pieces(audio, config, sizes))
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", ["speech-16k", "small", "small-center", "odd-window", "two-samples"])
def test_clips_shorter_than_what_is_mirrored(name: str) -> None:
    config = CONTRACTS[name]
    around = {config.window_samples // 2, config.hop_samples, config.n_fft // 2, config.n_fft}
    around.add((config.n_fft - config.hop_samples) // 2)
    lengths = sorted({0, 1, 2, 3} | {max(0, n + d) for n in around for d in (-1, 0, 1, 2)})
    for n_samples in lengths:
        audio = noise(n_samples)
        for size in (1, 50, 5_000):
            found = np.concatenate(in_pieces(audio, config, [size]))
            np.testing.assert_array_equal(found, log_mel(audio, config), err_msg=f"{n_samples} by {size}")


@pytest.mark.parametrize("name", sorted(CONTRACTS))
def test_a_frame_comes_with_the_last_sample_of_its_lookahead(name: str) -> None:
    config, stream = CONTRACTS[name], MelStream(CONTRACTS[name])
    n_frames = 6
    stretch_end = n_frames * config.hop_samples - config.lead_samples
    audio = noise(stretch_end + stream.lookahead_samples)
    assert len(stream.push(audio[:-1])) == n_frames - 1
    assert len(stream.push(audio[-1:])) == 1


def test_the_default_contracts_lookahead() -> None:
    """The figure that the command's help states: 18.8 ms."""
    assert MelStream(MelConfig()).lookahead_samples / 16 == 18.75


def test_a_long_stream_holds_little() -> None:
    stream, sizes = MelStream(MelConfig()), []
    for _ in range(50):
        stream.push(noise(1_000))
        sizes.append(len(pickle.dumps(stream)))
    assert max(sizes[2:]) < sizes[1] + 4 * 1_024


def test_silence_and_its_zeros_under_the_window() -> None:
    """Frames are given before the samples under the window's zeros have come: these must not matter."""
    audio = noise(6_000)
    audio[2_000:4_500] = 0
    config = MelConfig()
    np.testing.assert_array_equal(np.concatenate(in_pieces(audio, config, [33])), log_mel(audio, config))


@pytest.mark.parametrize("bad", [np.zeros((2, 3)), np.array([0.0, np.nan])])
def test_what_is_not_audio(bad: NDArray[Any]) -> None:
    with pytest.raises(AudioError, match=r"one channel|NaN"):
        MelStream(MelConfig()).push(bad)
