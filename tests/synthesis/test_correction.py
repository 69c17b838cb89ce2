"""The spectral correction: chunks, silence, levels, its gains against plain numpy, and that the mel is met."""

from collections.abc import Iterator
from functools import cache
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from support import naive

from gru_audio.config import MelConfig
from gru_audio.errors import ConfigError
from gru_audio.signal.mel import from_linear, log_mel, to_linear
from gru_audio.synthesis import correction_plan
from gru_audio.synthesis.correction import Corrections, check_corrections, default_corrections
from gru_audio.synthesis.correction_plan import low_division

Floats = NDArray[np.float32]
CONTRACTS = {
    "speech": MelConfig(),
    "power": MelConfig(spectrum="power", log="db"),
    "uneven": MelConfig(n_fft=512, window_samples=500, hop_samples=130),
    "center": MelConfig(padding="center"),
    "odd": MelConfig(n_fft=2048, window_samples=1100, hop_samples=275, padding="center"),
    "long": MelConfig(n_fft=2 * 3 * 5 * 7 * 11, window_samples=900, hop_samples=300, n_mels=33),
    "empty bands": MelConfig(n_fft=512, window_samples=400, hop_samples=100, n_mels=256),
    "prime": MelConfig(n_fft=2 * 83, window_samples=101, hop_samples=48, n_mels=9),
}
# Of which the mel says little: what comes out need not be near to what was recorded.
COARSE = {
    "more bands than bins": MelConfig(n_fft=128, window_samples=128, hop_samples=32, n_mels=256),
    "fewest bins": MelConfig(n_fft=64, window_samples=64, hop_samples=16, n_mels=512),
    "heard floor": MelConfig(floor=0.05, n_mels=8),
    "heard floor of power": MelConfig(floor=0.01, n_mels=40, spectrum="power", log="log10"),
}
EMPHASISED = {
    "emphasised": MelConfig(preemphasis=0.97),
    "emphasised power": MelConfig(preemphasis=0.9, spectrum="power", n_fft=400, window_samples=400),
}


def chord(n_frames: int, config: MelConfig, noise: float = 0.0) -> Floats:
    t = np.arange(n_frames * config.hop_samples) / config.sample_rate_hz
    rng = np.random.default_rng(0)
    tones = sum(np.sin(2 * np.pi * 130 * k * t) / k for k in range(1, 30))
    return (0.1 * tones * (0.3 + np.abs(np.sin(5 * t))) + noise * rng.normal(size=t.size)).astype(np.float32)


def stretches_mel(audio: Floats, config: MelConfig) -> Floats:
    """The mel (F, M) whose frame f stands for samples f * hop to (f + 1) * hop, whatever the padding."""
    return log_mel(audio[config.lead_samples :], config)


def corrected(audio: Floats, mel: Floats, config: MelConfig, passes: int, sizes: list[int]) -> Floats:
    corrections, parts, first = Corrections(config, passes), [], 0
    for size in sizes:
        samples = slice(first * config.hop_samples, (first + size) * config.hop_samples)
        parts.append(corrections.push(audio[samples], to_linear(mel[first : first + size], config)))
        first += size
    return np.concatenate([*parts, corrections.finish()])


def distance(audio: Floats, mel: Floats, config: MelConfig) -> float:
    """Mean absolute difference of the mels in dB, away from the ends."""
    found = stretches_mel(audio, config)
    ratio = np.log10(to_linear(found, config) / to_linear(mel, config))[4:-4]
    return float(20 * np.abs(ratio).mean())


@cache  # one for all instruction sets, whose mels have the same bits
def naively(config: MelConfig, n_frames: int, rounds: int) -> tuple[Floats, Floats, NDArray[np.float64]]:
    """Rough audio, a mel, and the audio corrected towards it."""
    rough = chord(n_frames, config, 0.02)
    mel = stretches_mel(chord(25, config), config)[:n_frames]
    return rough, mel, naive.corrected(rough, to_linear(mel, config).astype(np.float64), config, rounds)


@pytest.mark.parametrize(
    "config",
    [*CONTRACTS.values(), *COARSE.values(), *EMPHASISED.values()],
    ids=[*CONTRACTS, *COARSE, *EMPHASISED],
)
@pytest.mark.parametrize("n_frames", [1, 2, 9])
@pytest.mark.parametrize("rounds", [1, 3])
@pytest.mark.usefixtures("instructions")
def test_it_is_the_naive_one(config: MelConfig, n_frames: int, rounds: int) -> None:
    rough, mel, expected = naively(config, n_frames, rounds)
    tolerance = 1e-4 if rounds == 1 else 5e-4  # each round adds to what rounding changed
    result = corrected(rough, mel, config, rounds, [n_frames])
    np.testing.assert_allclose(result, expected, rtol=0, atol=tolerance)


@pytest.fixture
def no_contrast(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is aimed at is the mel itself."""
    for name in ("_CONTRAST_OF_BANDS", "_CONTRAST_OF_FRAMES"):
        monkeypatch.setattr(correction_plan, name, 0.0)
    correction_plan.plan_of_contract.cache_clear()
    yield
    correction_plan.plan_of_contract.cache_clear()


@pytest.mark.parametrize("config", CONTRACTS.values(), ids=CONTRACTS.keys())
@pytest.mark.usefixtures("no_contrast")
def test_audio_comes_to_meet_its_mel(config: MelConfig) -> None:
    clean, rough = chord(60, config, 1e-4), chord(60, config, 0.02)
    mel = stretches_mel(clean, config)
    far = distance(rough, mel, config)
    distances = [distance(corrected(rough, mel, config, n, [60]), mel, config) for n in (1, 2, 3)]
    assert max(distances) < 0.3 * far
    assert distances[2] < 0.2 * far
    assert distances[2] < max(1.2 * distances[0], 1), "of decibels"


@pytest.mark.parametrize("config", CONTRACTS.values(), ids=CONTRACTS.keys())
@pytest.mark.usefixtures("no_contrast")
def test_what_meets_its_mel_still_does(config: MelConfig) -> None:
    audio = chord(60, config, 1e-3)
    mel = stretches_mel(audio, config)
    result = corrected(audio, mel, config, 3, [60])
    assert distance(result, mel, config) < 0.25
    assert np.abs(result).max() < 1.5 * np.abs(audio).max(), "no bursts at the ends"
    if not low_division(config):  # else the low end may move as a whole, which a mel cannot tell
        inside = slice(20 * config.hop_samples, -20 * config.hop_samples)
        np.testing.assert_allclose(result[inside], audio[inside], atol=5e-5)


@pytest.mark.parametrize("config", EMPHASISED.values(), ids=EMPHASISED.keys())
def test_a_pre_emphasised_mel_thins_no_audio(config: MelConfig) -> None:
    clean, rough = chord(60, config, 1e-3), chord(60, config, 0.02)
    result = corrected(rough, stretches_mel(clean, config), config, 2, [60])
    assert 0.8 < np.std(result) / np.std(clean) < 1.25


def test_which_contracts_have_a_low_end() -> None:
    divisions = {name: division for name, config in CONTRACTS.items() if (division := low_division(config))}
    assert divisions == {"speech": 8, "power": 8, "center": 8, "uneven": 2, "empty bands": 4}
    assert low_division(MelConfig(f_min_hz=1200.0)) == 0, "no band lies in it"
    assert default_corrections(CONTRACTS["odd"]) > default_corrections(CONTRACTS["speech"])


@pytest.mark.usefixtures("no_contrast")
def test_the_low_end_brings_the_harmonics_nearer() -> None:
    """The bands below 800 Hz."""
    config = MelConfig()
    clean, rough = chord(80, config, 1e-4), chord(80, config, 0.02)
    mel = stretches_mel(clean, config)

    def low_distance(result: NDArray[np.floating]) -> float:
        found = stretches_mel(result.astype(np.float32), config)
        ratio = to_linear(found, config) / to_linear(mel, config)
        return float(20 * np.abs(np.log10(ratio))[8:-8, :20].mean())

    with_it = low_distance(corrected(rough, mel, config, 1, [80]))
    linear = to_linear(mel, config).astype(np.float64)
    without = low_distance(naive.corrected(rough, linear, config, 1, with_low_end=False, with_contrast=False))
    assert with_it < 0.7 * without


# The contrast


def audio_towards(mel: Floats, config: MelConfig) -> Floats:
    """The linear mel (F, M) of noise that was corrected towards a mel in many rounds, away from the ends."""
    noise = np.random.default_rng(0).normal(0, 0.05, len(mel) * config.hop_samples).astype(np.float32)
    result = corrected(noise, mel, config, 20, [len(mel)])
    return np.asarray(to_linear(stretches_mel(result, config), config)[8:-8])


@pytest.mark.parametrize("spectrum", ["magnitude", "power"])
def test_what_stands_out_stands_out_more(spectrum: Literal["magnitude", "power"]) -> None:
    """A formant, and a sound that swells; the energy stays."""
    config, power = MelConfig(spectrum=spectrum), 2 if spectrum == "power" else 1
    bands, frames = np.arange(80), np.arange(80)
    formant = 12 * np.exp(-(((bands - 40) / 6) ** 2))
    asked = formant + np.where(np.abs(bands - 60) < 6, 6 * np.sin(frames / 2)[:, None], 0)
    mel = from_linear((10 ** (asked * power / 20)).astype(np.float32), config)
    found = 20 / power * np.log10(audio_towards(mel, config))
    asked = asked[8:-8]
    heights = [(level[:, 38:43].mean() - level[:, 26:34].mean()) for level in (found, asked)]
    assert 0.5 < heights[0] - heights[1] < 2
    swings = [level[:, 57:64].mean(1).std() for level in (found, asked)]
    assert 1.05 < swings[0] / swings[1] < 1.35
    energies = [10 * np.log10(np.sum(10 ** (level / 10))) for level in (found, asked)]
    assert abs(energies[0] - energies[1]) < 0.7


@pytest.mark.parametrize("passes", [0, 1, 3])
def test_any_chunks_give_the_same_samples(passes: int) -> None:
    config = MelConfig()
    rough, mel = chord(30, config, 0.02), stretches_mel(chord(30, config), config)
    whole = corrected(rough, mel, config, passes, [30])
    assert whole.size == rough.size
    for sizes in ([1] * 30, [7, 0, 22, 1], [2, 28]):
        np.testing.assert_array_equal(corrected(rough, mel, config, passes, sizes), whole)
    if passes == 0:
        np.testing.assert_array_equal(whole, rough)


def test_frames_come_as_late_as_is_said() -> None:
    config = MelConfig()
    corrections = Corrections(config, 2)
    mel = stretches_mel(chord(20, config), config)
    sizes = [
        corrections.push(np.zeros(200, np.float32), to_linear(frame[None], config)).size for frame in mel
    ]
    delay = check_corrections(config, 2)
    assert delay == 4 == check_corrections(config, 5)
    assert sizes == [0] * delay + [200] * (20 - delay)
    assert corrections.finish().size == delay * 200


def test_hiss_in_silence_goes() -> None:
    """The longest complaint about vocoders of this kind."""
    config = MelConfig()
    hiss = (1e-3 * np.random.default_rng(1).normal(size=40 * 200)).astype(np.float32)
    silence = stretches_mel(np.zeros(40 * 200, np.float32), config)
    left = corrected(hiss, silence, config, 3, [40])
    assert np.sqrt(np.mean(left**2)) < 4e-3 * np.sqrt(np.mean(hiss**2))  # 48 dB


def test_of_what_is_under_a_high_floor_nothing_is_known() -> None:
    """So it stays at the floor, and is not cut out."""
    config = MelConfig(floor=1e-3)
    hiss = (1e-4 * np.random.default_rng(1).normal(size=40 * 200)).astype(np.float32)
    floor = stretches_mel(np.zeros(40 * 200, np.float32), config)
    left = corrected(hiss, floor, config, 3, [40])
    assert np.sqrt(np.mean(left**2)) > 0.1 * np.sqrt(np.mean(hiss**2))


@pytest.mark.parametrize("n_frames", [1, 2, 5])
def test_clips_shorter_than_a_window(n_frames: int) -> None:
    config = MelConfig()
    audio = chord(n_frames, config)
    result = corrected(audio, stretches_mel(chord(20, config), config)[:n_frames], config, 3, [n_frames])
    assert result.shape == audio.shape
    assert np.isfinite(result).all()
    assert np.abs(result).max() < 20 * np.abs(audio).max()


def test_what_cannot_be() -> None:
    with pytest.raises(ConfigError, match="corrections -1: must be from 0 to 100"):
        check_corrections(MelConfig(), -1)
    short = MelConfig(n_fft=512, window_samples=300, hop_samples=200)
    assert default_corrections(short) == 0 < default_corrections(MelConfig())
    with pytest.raises(ConfigError, match=r"window_samples \(300\) is less than two hops of 200"):
        check_corrections(short, 1)
    assert check_corrections(short, 0) == 0
