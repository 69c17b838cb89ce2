"""The first run of a compiled loop and the second: what is kept on disk, when it counts, and what is said of it."""

import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import gru_audio
from gru_audio import jit
from gru_audio.cli.console import compile_spinner, progress_bar
from gru_audio.compiling import compiling, tell
from gru_audio.config import load_config
from gru_audio.model import Network
from gru_audio.voice import Voice, save_voice

PACKAGE = Path(gru_audio.__file__).parent
MENTION = "compiling the loops for this processor, once"
LOOP = """
from gru_audio.gates import exp_parts
from gru_audio.jit import compiled

@compiled()
def mantissa(x):
    return exp_parts(x)[0]
"""
CALL = """
import sys
from gru_audio.compiling import compiling
from gru_audio.loop import mantissa
import numpy as np
told = []
with compiling(told.append):
    print(*(mantissa(getattr(np, kind)(40)) for kind in sys.argv[1:] or ["float32"]), told)
"""
IMPORTS = """
import importlib, sys
for name in sys.argv[1:]:
    for known in [known for known in sys.modules if known.startswith("gru_audio")]:
        del sys.modules[known]
    module = importlib.import_module(name)
    loaded = [known for known in sys.modules if known.startswith("gru_audio.")]
    print(module.__file__, *(sys.modules[known].__file__ for known in loaded))
"""
SYNTHESIZE = """
import atexit, pathlib, re, sys
from gru_audio.cli import main

def say_peak():
    peak_kib = re.search("VmHWM:\\s*(\\d+)", pathlib.Path("/proc/self/status").read_text())[1]
    print("PEAK", peak_kib, file=sys.stderr)

atexit.register(say_peak)
main()
"""
E_30 = "1.2149"  # e**30 = 1.2149 * 2**43


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A folder with this package and a small loop in it, never compiled."""
    shutil.copytree(PACKAGE, tmp_path / "lib/gru_audio", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "lib/gru_audio/loop.py").write_text(LOOP)
    return tmp_path / "lib"


def environment(copied: Path, **changes: str) -> dict[str, str]:
    kept = {
        name: value for name, value in os.environ.items() if name not in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME")
    }
    return {**kept, "PYTHONPATH": str(copied), "PYTHONDONTWRITEBYTECODE": "1", **changes}


def call(copied: Path, *kinds: str, script: str = CALL, **changes: str) -> str:
    """What the loop gives for 40 of each type, and what was told of compiling."""
    done = subprocess.run(
        [sys.executable, "-c", script, *kinds],
        cwd=copied,
        env=environment(copied, **changes),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout.strip()


def code_files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("loop.mantissa-*.code"))


def test_the_second_process_compiles_nothing(copied: Path) -> None:
    first, second = call(copied), call(copied)
    assert first.startswith(E_30) and first.endswith("[True, False]")
    assert second == first.replace("[True, False]", "[]")
    (kept,) = code_files(copied)
    assert kept.parent == copied / "gru_audio/__pycache__"


def test_a_change_in_what_is_inlined_counts(copied: Path) -> None:
    """The loop's own file keeps its date and its content."""
    before = call(copied)
    gates = copied / "gru_audio/gates.py"
    text = gates.read_text()
    assert "_LARGEST = np.float32(30.0)" in text
    gates.write_text(text.replace("_LARGEST = np.float32(30.0)", "_LARGEST = np.float32(0.0)"))
    stale = code_files(copied)
    assert call(copied) == "1.0 [True, False]" != before
    (kept,) = code_files(copied)
    assert kept not in stale  # which is gone
    gates.write_text(text)
    assert call(copied) == before


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_damaged_file_is_made_anew(copied: Path, damage: str) -> None:
    whole = call(copied)
    (kept,) = code_files(copied)
    content = kept.read_bytes()
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]
    kept.write_bytes({"cut": content[:middle], "flipped": flipped, "empty": b""}[damage])
    assert call(copied) == whole
    assert call(copied).endswith("[]")


@pytest.mark.slow
def test_processes_that_start_together(copied: Path) -> None:
    """Two types at once, which share no file."""
    kinds = ["float32", "float64"] * 2
    together = [
        subprocess.Popen(
            [sys.executable, "-c", CALL, kind],
            cwd=copied,
            env=environment(copied),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for kind in kinds
    ]
    for out, errors in [process.communicate(timeout=120) for process in together]:
        assert out.startswith(E_30), errors
    assert len(code_files(copied)) == 2
    assert not list(copied.rglob("*.partial*"))
    assert call(copied, *kinds).endswith("[]")


def test_a_package_that_cannot_be_written(copied: Path, tmp_path: Path) -> None:
    """A file in the folder's place keeps even root out."""
    (copied / "gru_audio/__pycache__").write_text("")
    home = {"HOME": str(tmp_path / "home")}
    assert call(copied, **home).endswith("[True, False]")
    assert call(copied, **home).endswith("[]")
    assert len(code_files(tmp_path / "home/.cache")) == 1
    nowhere = {"HOME": "/proc/nowhere"}
    assert call(copied, **nowhere).endswith("[True, False]")
    assert call(copied, **nowhere).endswith("[True, False]")


def test_no_room_for_the_code(copied: Path) -> None:
    full = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
    assert call(copied, script=full + CALL).startswith(E_30)
    assert not code_files(copied)
    assert not list(copied.rglob("*.partial*"))


def test_the_digest_covers_all_that_a_module_imports() -> None:
    modules = [
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        for path in sorted(PACKAGE.rglob("*.py"))
        if "from gru_audio.jit import" in path.read_text()
    ]
    assert {"gru_audio.gates", "gru_audio.synthesis.int8_kernels"} <= set(modules)
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS, *modules], capture_output=True, text=True, check=True
    )
    for line in done.stdout.splitlines():
        module, *loaded = map(Path, line.split())
        covered = {path for path in jit.sources_of(module) if path.name != "__init__.py"}
        assert covered == {path for path in loaded if path.name != "__init__.py"}, module


# What is said


def test_a_pipe_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    for display in (compile_spinner(), progress_bar("working")):
        with display:
            for begins in (True, False, True, False):
                tell(begins)
        assert capsys.readouterr().err.splitlines() == [f"{MENTION} (about 10 s)"]
    for display in (compile_spinner(quiet=True), progress_bar("working", quiet=True)):
        with display:
            tell(True)
    tell(True)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("display", ["compile_spinner()", "progress_bar('working')"])
@pytest.mark.parametrize("compiles", [True, False])
def test_a_terminal_shows_a_spinner_only_while_compiling(display: str, compiles: bool) -> None:
    script = (
        "import time\nfrom gru_audio.cli.console import *\nfrom gru_audio.compiling import tell\n"
        f"with {display} as progress:\n"
        f"    if {compiles}: tell(True); time.sleep(0.3); tell(False)\n"
        "    time.sleep(0.3)\n"
    )
    ours, terminal = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stderr=terminal,
        env={**os.environ, "COLUMNS": "100", "TERM": "xterm"},
    ) as process:
        os.close(terminal)
        shown = b""
        with pytest.raises(OSError, match="Input/output error"):  # how a terminal ends
            while True:
                shown += os.read(ours, 65_536)
    os.close(ours)
    assert process.returncode == 0
    assert (MENTION.encode() in shown) == compiles
    assert (b"working" in shown) == display.startswith("progress_bar")


@pytest.mark.slow
def test_the_first_run_says_so_and_the_second_is_light(tmp_path: Path) -> None:
    sizes = ("gru_size", "conditioning_size", "readout_size", "pitch_size")
    config = load_config("tiny", [f"model.{size}=16" for size in sizes])
    torch.manual_seed(0)
    tensors = {name: tensor.numpy() for name, tensor in Network(config).state_dict().items()}
    save_voice(tmp_path / "voice.safetensors", Voice(config, tensors))
    soundfile.write(tmp_path / "in.wav", 0.1 * np.random.default_rng(0).standard_normal(8_000), 16_000)
    command = [sys.executable, "-X", "importtime", "-c", SYNTHESIZE, "synthesize", "--engine", "int8"]
    said = []
    for arguments in ("in.wav -o 1.wav", "in.wav -o 2.wav", "- --stdin pcm -o 3.wav"):
        done = subprocess.run(
            [*command, *arguments.split(), "--voice", "voice.safetensors"],
            cwd=tmp_path,
            env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")},
            input="",
            capture_output=True,
            text=True,
            check=True,
        )
        lines = [line for line in done.stderr.splitlines() if not line.startswith("import time:")]
        modules = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
        assert "numba" in modules
        assert not {"torch", "librosa", "tensorboard", "scipy.signal"} & modules
        peak_kib = int(lines.pop().removeprefix("PEAK "))
        said.append(lines)
    assert said[0] == [f"{MENTION} (about 10 s)"]
    assert said[1] == []
    assert not any(MENTION in line for line in said[2])
    assert (tmp_path / "1.wav").read_bytes() == (tmp_path / "2.wav").read_bytes()
    assert peak_kib < 250 * 1024


def test_a_caller_is_told_no_more_after_the_context() -> None:
    told: list[bool] = []
    with compiling(told.append):
        tell(True)
    tell(False)
    assert told == [True]
