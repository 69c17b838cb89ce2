"""Mu-law companding against torchaudio's, and what every code must keep."""

import numpy as np
import pytest
import torch
import torchaudio
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from gru_audio.errors import AudioError
from gru_audio.signal.mulaw import encode, expansion_table, thresholds

CLASSES = [64, 128, 256, 512, 1024]
amplitudes = hnp.arrays(np.float32, st.integers(0, 50), elements=st.floats(-1, 1, width=32))


def torchaudio_codes(values: NDArray[np.float32], n_classes: int) -> NDArray[np.int64]:
    codes = torchaudio.functional.mu_law_encoding(torch.from_numpy(values), n_classes)
    return np.asarray(codes.numpy())


@pytest.mark.parametrize("n_classes", CLASSES)
def test_codes_are_torchaudios_but_on_the_very_threshold(n_classes: int) -> None:
    rng = np.random.default_rng(0)
    fine = 0.1 * rng.standard_normal(200_000)
    values = np.clip(np.concatenate([np.linspace(-1, 1, 200_001), fine]), -1, 1).astype(np.float32)

    different = encode(values, n_classes) != torchaudio_codes(values, n_classes)

    # Measured: 1 to 8 of 400,001, each within 6e-7 of a threshold, which is torchaudio's float32 rounding.
    assert different.sum() <= 16
    edges = thresholds(n_classes)
    for value in values[different]:
        assert np.abs(edges - value).min() <= 1e-6 * abs(value)


@pytest.mark.parametrize("n_classes", CLASSES)
def test_amplitudes_are_torchaudios(n_classes: int) -> None:
    theirs = torchaudio.functional.mu_law_decoding(torch.arange(n_classes), n_classes).numpy()

    np.testing.assert_allclose(expansion_table(n_classes), theirs, rtol=0, atol=5e-7)


@pytest.mark.parametrize("n_classes", CLASSES)
def test_every_code_comes_back(n_classes: int) -> None:
    codes = np.arange(n_classes)

    np.testing.assert_array_equal(encode(expansion_table(n_classes)[codes], n_classes), codes)


@pytest.mark.parametrize("n_classes", CLASSES)
def test_the_tables_are_ascending_symmetric_and_of_full_scale(n_classes: int) -> None:
    table, edges = expansion_table(n_classes), thresholds(n_classes)

    assert (table.shape, edges.shape) == ((n_classes,), (n_classes - 1,))
    assert (np.diff(table) > 0).all()
    assert (np.diff(edges) > 0).all()
    np.testing.assert_array_equal(table, -table[::-1])
    np.testing.assert_array_equal(edges, -edges[::-1])
    assert (table[0], table[-1]) == (-1.0, 1.0)
    assert ((table[:-1] < edges) & (edges < table[1:])).all()


@pytest.mark.parametrize("n_classes", CLASSES)
def test_a_threshold_belongs_to_the_code_above_it(n_classes: int) -> None:
    edges = thresholds(n_classes)

    np.testing.assert_array_equal(encode(edges, n_classes), np.arange(1, n_classes))
    below = np.nextafter(edges, np.float32(-2))
    np.testing.assert_array_equal(encode(below, n_classes), np.arange(n_classes - 1))


@given(values=amplitudes, n_classes=st.sampled_from(CLASSES))
def test_error_is_at_most_half_a_companded_step(values: NDArray[np.float32], n_classes: int) -> None:
    mu = n_classes - 1

    def compand(x: NDArray[np.float32]) -> NDArray[np.float64]:
        wide = x.astype(np.float64)
        return np.asarray(np.sign(wide) * np.log1p(mu * np.abs(wide)) / np.log1p(mu))

    error = np.abs(compand(expansion_table(n_classes)[encode(values, n_classes)]) - compand(values))

    assert (error <= 1 / mu + 1e-6).all()  # the codes lie 2 / mu apart


@given(values=amplitudes, n_classes=st.sampled_from(CLASSES))
def test_codes_never_go_down_as_the_amplitude_goes_up(values: NDArray[np.float32], n_classes: int) -> None:
    codes = encode(np.sort(values), n_classes)

    assert (np.diff(codes) >= 0).all()


@given(
    values=hnp.arrays(
        st.sampled_from([np.float32, np.float64]),
        hnp.array_shapes(max_dims=3, min_side=0),
        elements=st.floats(allow_nan=False, width=32),
    ),
    n_classes=st.sampled_from(CLASSES),
)
def test_any_number_gets_a_code(values: NDArray[np.floating], n_classes: int) -> None:
    codes = encode(values, n_classes)

    assert codes.shape == values.shape
    assert codes.dtype == np.int16
    assert ((codes >= 0) & (codes < n_classes)).all()
    assert (codes[values >= 1] == n_classes - 1).all()
    assert (codes[values <= -1] == 0).all()
    assert (codes[values == 0] == n_classes // 2).all()


def test_a_double_beyond_float32_takes_the_outermost_code() -> None:
    np.testing.assert_array_equal(encode([1e300, -1e300, np.inf, -np.inf], 256), [255, 0, 255, 0])


def test_nan_is_refused() -> None:
    with pytest.raises(AudioError, match="an amplitude is NaN"):
        encode([0.0, np.nan], 256)


def test_tables_are_read_only() -> None:
    for table in (expansion_table(256), thresholds(256)):
        with pytest.raises(ValueError, match="read-only"):
            table[0] = 0
