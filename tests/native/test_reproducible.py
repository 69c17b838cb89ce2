"""Tables that every processor makes alike."""

import hashlib
import os
import platform
import subprocess
import sys

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from gru_audio.native.reproducible import product, rounded

# What NumPy's BLAS is told to be: each sums in another order.
KERNELS = {"x86_64": ("Nehalem", "Haswell"), "aarch64": ("ARMV8", "NEOVERSEN1")}
EXPORT = """
import hashlib, sys, tempfile
from pathlib import Path
from gru_audio.synthesis.int8.voice_file import export_voice
with tempfile.TemporaryDirectory() as folder:
    export_voice("debian-16k", Path(folder) / "voice.gru")
    print(hashlib.sha256((Path(folder) / "voice.gru").read_bytes()).hexdigest())
"""


def test_a_voice_has_the_same_tables_whatever_sums_them() -> None:
    digests = set()
    for kernel in KERNELS.get(platform.machine(), ("", "")):
        environment = {**os.environ, "OPENBLAS_CORETYPE": kernel}
        done = subprocess.run(
            [sys.executable, "-c", EXPORT], capture_output=True, text=True, env=environment, check=True
        )
        digests.add(done.stdout)
    (digest,) = digests
    assert len(digest.strip()) == len(hashlib.sha256().hexdigest())


@pytest.mark.parametrize("n_terms", [0, 1, 5, 128, 600])
def test_a_product_has_the_same_bits_in_any_order(n_terms: int) -> None:
    rng = np.random.default_rng(n_terms)
    left = (rng.standard_normal((7, n_terms)) * 10.0 ** rng.integers(-6, 3, (7, 1))).astype(np.float32)
    right = rng.standard_normal((9, n_terms)).astype(np.float32)
    left[3] = 0
    found = product(left, right)
    for _ in range(20):
        order = rng.permutation(n_terms)
        assert_array_equal(product(left[:, order], right[:, order]), found)
    assert_array_equal(product(np.tile(left, (90, 1)), right), np.tile(found, (90, 1)))  # some rows at a time
    exact = left.astype(np.float64) @ right.T.astype(np.float64)
    largest = np.abs(left).max(1, initial=0)[:, None] * np.abs(right).max(1, initial=0)
    assert found.dtype == np.float32
    assert (np.abs(found - exact) <= 1e-6 * largest * max(1, n_terms) ** 0.5).all()


def test_what_differs_in_its_last_bits_is_rounded_to_the_same() -> None:
    rng = np.random.default_rng(0)
    table = rng.standard_normal((50, 50))
    found = rounded(table)
    assert_array_equal(rounded(table * (1 + 2.0**-52 * rng.integers(-3, 4, table.shape))), found)
    assert np.abs(found - table).max() <= 2.0**-26 * np.abs(table).max()
    assert not np.signbit(rounded(np.array([1.0, -1e-30]))).any()
    assert_array_equal(rounded(np.zeros(3)), np.zeros(3))
