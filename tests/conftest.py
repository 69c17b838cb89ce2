"""What several test files use: the bundled clips and made-up tones, at 16 kHz; and what training begins with."""

import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

# The tests run in one process a core (see pyproject.toml); threads that spin would stall them all. The
# libraries read this when they are imported, and so do the commands that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Each command that tests start would compile the package again, and each worker rewrite all tests' assertions.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# A machine's GPU is out of the tests' sight: torch's backward would start threads for it, after which no process may be
# forked, and two processes would share it. benchmarks/gpu.py is for it.
if os.environ.get("GRU_AUDIO_TEST_GPU") != "1":
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ["TRITON_INTERPRET"] = "1"  # kernels for a GPU run in Triton's interpreter, where it is installed

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, settings
from numpy.typing import NDArray

from gru_audio.native import instruction_sets, library

if TYPE_CHECKING:
    from support.warm_process import WarmProcess

# A compilation, a first import or a busy core is no failure; and what passes today passes tomorrow.
settings.register_profile(
    "repeatable", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("random", settings.get_profile("repeatable"), derandomize=False)
settings.load_profile("repeatable")

SAMPLES = Path(__file__).parent.parent / "samples"
TORCHS_SEED = 67_280_421_310_721
"""With which torch begins."""


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """A test that gives no seed draws the same numbers, whichever tests were before it in its process."""
    random.seed(0)
    np.random.seed(0)
    if (torch := sys.modules.get("torch")) is not None:
        torch.manual_seed(TORCHS_SEED)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Torch's one thread, again after `gru-audio train` gave all cores to the process that it is in."""
    yield
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


@pytest.fixture(params=instruction_sets.supported())
def instructions(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs a test once with each instruction set that this machine has."""
    with library.using(request.param):
        yield request.param


@pytest.fixture(scope="session")
def sample_clips() -> dict[str, NDArray[np.float32]]:
    """Every bundled clip's audio by the clip's name; do not change the arrays."""
    return {path.stem: soundfile.read(path, dtype="float32")[0] for path in sorted(SAMPLES.glob("*.flac"))}


@pytest.fixture(scope="session")
def speech(sample_clips: dict[str, NDArray[np.float32]]) -> NDArray[np.float32]:
    """One clip; do not change it."""
    return sample_clips["it-carlo-vm-rec-name"]


@pytest.fixture(scope="session")
def tones() -> NDArray[np.float32]:
    """Half a second of a 200 Hz tone with harmonics, then a quarter of noise and a quarter of silence."""
    t = np.arange(8_000) / 16_000
    tone = sum(np.sin(2 * np.pi * 200 * k * t) / k for k in range(1, 20))
    noise = np.random.default_rng(0).standard_normal(4_000)
    return np.concatenate([0.2 * tone, 0.05 * noise, np.zeros(4_000)]).astype(np.float32)


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six seconds of buzzes at 8 kHz, see `support.runs.make_dataset`; leave it as it is."""
    from support.runs import make_dataset

    return make_dataset(tmp_path_factory.mktemp("buzzes"), licence="CC0", source_note="made up")


@pytest.fixture(scope="session")
def warm(dataset: Path) -> "Iterator[WarmProcess]":
    """A process to fork `gru-audio train` from, which has trained on the dataset for a step."""
    from support.warm_process import warm_process

    begin = f"from support.runs import train_a_step; train_a_step({str(dataset)!r})"
    with warm_process(begin) as process:
        yield process
