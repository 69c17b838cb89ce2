"""Signals that end a command, and what they leave: nothing half written, and no process alone."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest


def speaking_into(folder: Path, hang_up: str) -> "subprocess.Popen[bytes]":
    """A command that has begun its file and waits for more frames; it starts with this for SIGHUP."""
    script = (
        f"import signal; signal.signal(signal.SIGHUP, signal.{hang_up}); "
        "from gru_audio.__main__ import main; main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, "synthesize", "-", "-o", str(folder / "out.wav"), "--quiet"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin
    process.stdin.write(np.full((80, 80), np.log(1e-5), np.float32).tobytes())
    process.stdin.flush()
    give_up = time.monotonic() + 120
    while not list(folder.iterdir()) and time.monotonic() < give_up:
        time.sleep(0.02)
    assert list(folder.iterdir())
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_no_half_file(number: signal.Signals, tmp_path: Path) -> None:
    with speaking_into(tmp_path, "SIG_DFL") as process:
        process.send_signal(number)
        assert process.stderr
        said = process.stderr.read().decode()
        assert said == "stopped\n", said
    assert process.returncode == 128 + number
    assert not list(tmp_path.iterdir())


def test_nohup_is_heeded(tmp_path: Path) -> None:
    """A terminal that closes does not end a command that was told to ignore it."""
    with speaking_into(tmp_path, "SIG_IGN") as process:
        process.send_signal(signal.SIGHUP)
        _, said = process.communicate(timeout=120)
    assert (process.returncode, said) == (0, b"")
    assert [path.name for path in tmp_path.iterdir()] == ["out.wav"]


def run_script(script: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("raised", ["KeyboardInterrupt", "KeyboardInterrupt(15)", "KeyboardInterrupt(1)"])
@pytest.mark.parametrize("place", ["cli.main", "TyperGroup.parse_args"])
def test_a_signal_before_a_command_begins_is_one_line(raised: str, place: str) -> None:
    script = (
        "from typer.core import TyperGroup\nfrom gru_audio import cli, __main__\n"
        f"def stop(*_):\n    raise {raised}\n"
        f"{place} = stop\n__main__.main()"
    )
    done = run_script(script)
    code = {"KeyboardInterrupt": 130, "KeyboardInterrupt(15)": 143, "KeyboardInterrupt(1)": 129}[raised]
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "stopped\n")


def test_a_signal_that_came_to_others_c_code_is_one_line() -> None:
    """Numba's functions return in spite of it, as `evaluate` saw; any other SystemError is one still."""
    script = (
        "from typer.core import TyperGroup\nfrom gru_audio import __main__\n"
        "def stop(*_):\n    raise SystemError('returned a result') from {cause}\n"
        "TyperGroup.invoke = stop\n__main__.main()"
    )
    for cause, code, said in (
        ("KeyboardInterrupt(15)", 143, "stopped"),
        ("ValueError('x')", 1, "SystemError: returned a result"),
    ):
        done = run_script(script.format(cause=cause))
        assert (done.returncode, done.stderr.splitlines()[-1]) == (code, said)


def test_a_signal_while_a_class_is_made_is_one_line() -> None:
    """Before Python 3.12 it comes as the cause of a RuntimeError; any other of these is one still."""
    script = (
        "from gru_audio import cli, __main__\n"
        "class Field:\n    def __set_name__(self, *_):\n        raise {raised}\n"
        "cli.main = lambda: type('Model', (), {{'field': Field()}})\n__main__.main()"
    )
    for raised, code, said in (
        ("KeyboardInterrupt(15)", 143, "stopped"),
        ("ValueError('x')", 1, "ValueError: x"),
    ):
        done = run_script(script.format(raised=raised))
        assert (done.returncode, done.stdout) == (code, "")
        assert (done.stderr == "stopped\n") == (said == "stopped")
        assert said in done.stderr


def test_processes_end_with_a_killed_parent() -> None:
    """joblib's would wait five minutes for more to do. They share the parent's stdout, which ends when all have."""
    script = (
        "import os, time\nfrom gru_audio.parallel import map_in_order\n"
        "for size in map_in_order(len, ['a', 'bc', 'd'], jobs=2):\n    print(size, flush=True)\n"
        "time.sleep(100)"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout
    assert [process.stdout.readline() for _ in range(3)] == [b"1\n", b"2\n", b"1\n"]
    os.kill(process.pid, signal.SIGKILL)
    assert process.communicate(timeout=120)[0] == b""


def test_processes_hold_back_a_terminals_ctrl_c() -> None:
    """It goes to them too, and one that still imports what it needs would answer with a traceback."""
    script = (
        "import signal\nfrom gru_audio.parallel import map_in_order\n"
        "def is_held(_):\n    return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])\n"
        "print(list(map_in_order(is_held, range(2), jobs=2)), is_held(0))"
    )
    done = run_script(script)
    assert (done.stdout, done.stderr) == ("[True, True] False\n", "")
