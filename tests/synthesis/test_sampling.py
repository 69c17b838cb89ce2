"""How codes are drawn by a voice's own settings: coloured noise and voicing, the same in every engine."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from support.folded import HOP, random_block, random_network, voiceless_config

from gru_audio.errors import CheckpointError, ConfigError
from gru_audio.signal.mulaw import expansion_table, group_means, thresholds
from gru_audio.synthesis.compiled import CompiledEngine
from gru_audio.synthesis.engines import ENGINES
from gru_audio.synthesis.sampling import PLAIN_SAMPLING, UNCHANGED, Sampling, VoicedDraws, VoiceSampling
from gru_audio.synthesis.torch_engine.engine import TorchEngine

Floats = NDArray[np.float32]
SHAPED = VoiceSampling(1.0, VoicedDraws(0.7, (0.6, 0.3, -0.1)))
COMPILED = ("float32", "int8")


def folded(stride: int = 1) -> Any:
    return random_network(voiceless_config(stride, 8, 8, 48, 32))


def uniforms_of(n_frames: int) -> Floats:
    return np.random.default_rng(5).random((1, n_frames * HOP), np.float32)


def drawn_by(
    engine: Any, block: Any, uniforms: Floats, cuts: tuple[int, ...] = (), sampling: Sampling = PLAIN_SAMPLING
) -> Floats:
    """The audio of a block, cut before some frames."""
    state, bounds, hop = engine.start(1), [0, *cuts, len(block)], uniforms.shape[1] // len(block)
    parts = [
        engine.generate(state, [block[a:b]], uniforms[:, a * hop : b * hop], sampling)
        for a, b in pairwise(bounds)
    ]
    audio: Floats = np.concatenate(parts, 1)[0]
    return audio


@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.usefixtures("instructions")
def test_float32_draws_what_torch_draws(stride: int) -> None:
    network = folded(stride)
    block, uniforms = random_block(network.config, 6), uniforms_of(6)
    colder = Sampling(temperature=0.9)
    expected = drawn_by(TorchEngine(network, torch.device("cpu"), SHAPED), block, uniforms, sampling=colder)
    found = drawn_by(ENGINES["float32"](network, "cpu", SHAPED), block, uniforms, sampling=colder)
    differs = np.abs(found - expected) > 1e-3 * np.abs(expected).max()
    assert not differs[: differs.size // 2].any()


@pytest.mark.parametrize("engine", [*COMPILED, "torch"])
def test_pieces_of_any_size_are_the_same_bits(engine: str) -> None:
    """The noise's past is part of a stream's state."""
    network = folded(2)
    block, uniforms = random_block(network.config, 8), uniforms_of(8)
    made = ENGINES[engine](network, "cpu", SHAPED)
    np.testing.assert_array_equal(drawn_by(made, block, uniforms, (1, 3, 4)), drawn_by(made, block, uniforms))


@pytest.mark.parametrize("engine", [*COMPILED, "torch"])
def test_shaping_changes_voiced_frames_alone(engine: str) -> None:
    network = folded()
    block, uniforms = random_block(network.config, 8), uniforms_of(8)
    unvoiced = replace(block, lags=np.zeros_like(block.lags))
    plain, shaped = (ENGINES[engine](network, "cpu", own) for own in (UNCHANGED, SHAPED))
    assert not np.array_equal(drawn_by(plain, block, uniforms), drawn_by(shaped, block, uniforms))
    np.testing.assert_array_equal(drawn_by(plain, unvoiced, uniforms), drawn_by(shaped, unvoiced, uniforms))


@pytest.mark.parametrize("engine", COMPILED)
def test_no_taps_and_no_factor_are_plain_draws(engine: str) -> None:
    network = folded()
    block, uniforms = random_block(network.config, 6), uniforms_of(6)
    plain = ENGINES[engine](network, "cpu", UNCHANGED)
    same = ENGINES[engine](network, "cpu", VoiceSampling(1.0, VoicedDraws(1.0, (0.0, 0.0, 0.0))))
    np.testing.assert_array_equal(drawn_by(plain, block, uniforms), drawn_by(same, block, uniforms))


@pytest.mark.parametrize("engine", COMPILED)
def test_likelihood_knows_nothing_of_it(engine: str) -> None:
    network = folded()
    block = random_block(network.config, 6)
    codes = np.random.default_rng(0).integers(0, 256, uniforms_of(6).size)
    plain, shaped = (ENGINES[engine](network, "cpu", own) for own in (UNCHANGED, SHAPED))
    assert isinstance(plain, CompiledEngine) and isinstance(shaped, CompiledEngine)
    np.testing.assert_array_equal(plain.probabilities(block, codes), shaped.probabilities(block, codes))


def test_group_means_are_means() -> None:
    amplitudes = expansion_table(256)
    np.testing.assert_allclose(
        group_means(256, 16), [part.mean() for part in np.split(amplitudes, 16)], rtol=1e-6
    )
    assert np.all(np.diff(group_means(64, 16)) > 0)
    assert thresholds(256).size == 255


def test_a_voices_settings_go_through_its_metadata() -> None:
    own = SHAPED
    assert VoiceSampling.of({"sampling": own.told()}) == own
    assert VoiceSampling.of({}) == VoiceSampling(0.8)


@pytest.mark.parametrize(
    "told",
    [
        3,
        {},
        {"temperature": 0, "voiced_temperature_factor": 1, "noise_taps": [0, 0, 0]},
        {"temperature": 1, "voiced_temperature_factor": 1, "noise_taps": [0, 0]},
        {"temperature": 1, "voiced_temperature_factor": "x", "noise_taps": [0, 0, 0]},
        {"temperature": 1, "voiced_temperature_factor": 1, "noise_taps": [0, 2, 0]},
        {"temperature": float("nan"), "voiced_temperature_factor": 1, "noise_taps": [0, 0, 0]},
    ],
)
def test_other_metadata_are_refused(told: Any) -> None:
    with pytest.raises(CheckpointError, match="'sampling'"):
        VoiceSampling.of({"sampling": told})


@pytest.mark.parametrize(
    "settings", [{"seed": -1}, {"temperature": 0.0}, {"temperature": 11.0}, {"tail_cut": 0.5}]
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Sampling(**settings)
