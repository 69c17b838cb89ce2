"""The float32 engine's loop against its naive version, with every instruction set; test_synthesis.py has torch's."""

from typing import Any

import numpy as np
import pytest
from support import naive
from support.folded import HOP, random_block, random_network, voiceless_config

from gru_audio.config import Config
from gru_audio.synthesis.compiled import CompiledEngine
from gru_audio.synthesis.float32_engine import Float32Loop
from gru_audio.synthesis.sampling import Sampling

N_FRAMES = 4
CASES = {
    "every sample": (voiceless_config(1, 8, 8, 136, 10), (1.0, 1.0, 1.0)),
    "two samples, no prediction": (voiceless_config(2, 0, 6, 40, 20), (1.0, 1.0, 1.0)),
    "four samples, sparse": (voiceless_config(4, 16, 10, 64, 48), (0.3, 0.0, 0.6)),
    "one unit": (voiceless_config(1, 1, 8, 1, 1), (1.0, 1.0, 1.0)),
}


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize(("config", "densities"), CASES.values(), ids=CASES)
@pytest.mark.parametrize("sampling", [{}, {"temperature": 0.7, "tail_cut": 0.05}])
def test_the_loop_draws_what_the_naive_one_does(
    config: Config, densities: tuple[float, ...], sampling: dict[str, Any]
) -> None:
    """Each uniform number lies in the interval of the code that it drew."""
    network, block = random_network(config, densities=densities), random_block(config, N_FRAMES)
    engine = CompiledEngine(config, Float32Loop(network))
    uniforms = np.random.default_rng(0).random((1, N_FRAMES * HOP), np.float32)
    (state,) = engine.start(1)
    past = state.codes
    audio, codes = [], []
    for frame in range(N_FRAMES):
        part = uniforms[:, frame * HOP : (frame + 1) * HOP]
        audio.append(engine.generate([state], [block[frame : frame + 1]], part, Sampling(**sampling)))
        codes.append(state.codes[-HOP:])
    drawn = np.concatenate(codes)
    layers = naive.FloatNetwork(network)
    low, high = naive.intervals(network, layers, block, drawn, past, **sampling)
    assert ((uniforms[0] > low - 1e-5) & (uniforms[0] < high + 1e-5)).all()
    assert len(set(drawn)) > 10
    whole = engine.generate(engine.start(1), [block], uniforms, Sampling(**sampling))
    np.testing.assert_array_equal(np.concatenate(audio, 1), whole)


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize(("config", "densities"), CASES.values(), ids=CASES)
def test_given_codes_are_as_likely_as_the_naive_loop_says(
    config: Config, densities: tuple[float, ...]
) -> None:
    network, block = random_network(config, densities=densities), random_block(config, N_FRAMES)
    engine = CompiledEngine(config, Float32Loop(network))
    (silence,), (state,) = engine.start(1), engine.start(1)
    uniforms = np.random.default_rng(0).random((1, N_FRAMES * HOP), np.float32)
    engine.generate([state], [block], uniforms)
    codes = state.codes[-uniforms.size :]
    codes[::3] = np.random.default_rng(1).integers(0, config.signal.n_classes, len(codes[::3]))
    low, high = naive.intervals(network, naive.FloatNetwork(network), block, codes, silence.codes)
    # A branch less likely than float32 can tell from none is none.
    np.testing.assert_allclose(engine.probabilities(block, codes), high - low, rtol=2e-3, atol=1e-7)
    assert np.mean(high - low > 1e-4) > 0.5
