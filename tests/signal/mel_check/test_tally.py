"""What is counted of a mel, and how loud its frames are."""

import numpy as np
import pytest
from numpy.typing import NDArray

from gru_audio.config import MEL_PRESETS, MelConfig
from gru_audio.signal.mel import log_mel, to_linear
from gru_audio.signal.mel_adapt.levels import frame_levels
from gru_audio.signal.mel_check.order import Order
from gru_audio.signal.mel_check.tally import MelTally

Floats = NDArray[np.float32]
CONTRACT = MelConfig()


def test_levels_are_those_of_noise() -> None:
    noise = np.random.default_rng(0).normal(size=64_000).astype(np.float32)
    for contract in (CONTRACT, MelConfig(spectrum="power", preemphasis=0.9), MEL_PRESETS["vocos-24k"]):
        levels = frame_levels(to_linear(log_mel(0.1 * noise, contract), contract), contract)
        assert abs(float(levels.mean()) + 20) < 1.0


def test_a_tally_does_not_depend_on_its_pieces(speech: Floats) -> None:
    mel = log_mel(speech, CONTRACT)
    whole, pieces = MelTally(CONTRACT), MelTally(CONTRACT)
    levels = frame_levels(to_linear(mel, CONTRACT), CONTRACT)
    whole.add(mel, levels)
    for frame, level in zip(mel, levels, strict=True):
        pieces.add(frame[None], level[None])
    np.testing.assert_allclose(pieces.bands.deviation, whole.bands.deviation, rtol=1e-9)
    assert pieces.moves_together == pytest.approx(whole.moves_together)
    assert (pieces.n_frames, pieces.is_cut) == (whole.n_frames, whole.is_cut)


@pytest.mark.parametrize("n_at_once", [1, 7, 400])
def test_the_order_of_values_is_told_from_any_pieces(speech: Floats, n_at_once: int) -> None:
    mel = log_mel(speech, CONTRACT)
    told = []
    for values in (mel, mel[:, ::-1], mel.T.copy().reshape(mel.shape)):
        order = Order(CONTRACT.n_mels, 1.0)
        for first in range(0, len(mel), n_at_once):
            order.add(values[first : first + n_at_once].astype(np.float64))
        told.append((order.is_rougher_above, order.is_transposed))
    assert told == [(False, False), (True, False), (False, True)]
