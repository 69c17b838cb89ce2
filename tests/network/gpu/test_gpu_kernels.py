"""The kernels compile for a GPU, on any machine with Triton; in its interpreter much passes that a GPU refuses."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gru_audio.network.gpu.choice import WAYS

SHARED_BYTES = 227 * 1024  # of an H100's block


@pytest.mark.slow
def test_kernels_compile_for_an_h100(tmp_path: Path) -> None:
    pytest.importorskip("triton")
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    out = subprocess.run(
        [sys.executable, "-m", "support.compiled_kernels"],
        env=environment,
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    found = json.loads(out)
    for name in ("closed_loop", "levinson_durbin", "ordered_product"):
        assert found[name]["fused"] == 0, f"{name}: a fused product rounds otherwise than the C core"
    assert found["table_gradient"]["tensor"] > 0, "no products from shared memory"
    for name in ("gru_forward", "gru_backward"):
        assert found[name]["tensor"] + found[name]["small tensor"] > 0, f"{name}: no products of tensor cores"
        assert 3 * WAYS[0].units * 384 * 2 < found[name]["shared"] <= SHARED_BYTES, (
            "slices of W_hh are kept there"
        )
    exact, halves = found["sample_loop"], found["sample_loop of halves"]
    assert exact["small tensor"] > 0, "16 streams are too few for larger products"
    assert exact["ahead"] > 0, "weights come while others are multiplied"
    assert exact["small tensor"] < halves["small tensor"], "what is multiplied by 0 is left out"
    assert exact["shared"] < halves["shared"] <= SHARED_BYTES, "nor is it read"
