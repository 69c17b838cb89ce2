"""Files written so that nobody sees half of one, whatever lies in their way."""

import fcntl
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from gru_audio.data.folder_lock import folder_lock
from gru_audio.errors import OutputError
from gru_audio.files import (
    MARK,
    atomic_path,
    files_open_at_once,
    open_file,
    remove_abandoned,
    require_writable,
    why_no_file,
)
from gru_audio.folders import require_targets

STAY = """
import sys, time
from pathlib import Path
from gru_audio.files import atomic_path
with atomic_path(Path(sys.argv[1])) as temporary:
    temporary.write_bytes(b"half")
    print(temporary, flush=True)
    time.sleep(60)
"""


def test_a_file_appears_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    with atomic_path(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
        assert temporary.parent == path.parent
        assert temporary.suffix == ".txt"
        assert temporary.name.startswith(".gru-audio-"), "which no folder walk takes"
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


def test_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "a") as temporary:
        temporary.write_text("")
    (tmp_path / "b").touch()
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_path(path) as temporary:
        temporary.write_text("new")
        1 / 0  # noqa: B018
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def interrupted(what: Callable[[], None], number: int = sys.maxsize) -> list[str]:
    """Do something until Ctrl-C comes at the n-th line of ours or contextlib's; gives the lines until then."""
    lines: list[str] = []

    def at_a_line(frame: FrameType, event: str, _argument: object) -> Any:
        name = Path(frame.f_code.co_filename).name
        if name not in {"contextlib.py", "files.py", "folder_lock.py", "locks.py"}:
            return None
        if event in {"call", "line"}:
            lines.append(f"{name}:{frame.f_lineno}")
            if len(lines) > number:
                raise KeyboardInterrupt
        return at_a_line

    before = sys.gettrace()
    sys.settrace(at_a_line)
    try:
        what()
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(before)
    return lines


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # of a file whose opening was interrupted
def test_a_signal_between_any_two_lines_leaves_no_half_file(tmp_path: Path) -> None:
    path, seen = tmp_path / "a.txt", set()

    def write() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("new")

    for number in range(len(interrupted(write))):
        path.write_text("old")
        lines = interrupted(write, number)
        assert list(tmp_path.iterdir()) == [path], lines[-1]
        seen.add(path.read_text())
    assert seen == {"old", "new"}


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_signal_before_a_run_has_begun_leaves_no_folder(tmp_path: Path) -> None:
    """At its end it may leave a lock, which nobody holds."""
    run, begun = tmp_path / "run", list[bool]()

    def train() -> None:
        with folder_lock(run, "train", OutputError):
            begun.append((run / ".lock").exists())

    for number in range(len(interrupted(train))):
        begun.clear()
        lines = interrupted(train, number)
        assert begun or not run.exists(), lines[-1]
        train()
        assert all(begun)
        assert not (run / ".lock").exists()
        if run.exists():
            run.rmdir()
    assert begun


def test_a_process_that_ends_within_a_block_leaves_no_half_file(tmp_path: Path) -> None:
    """As when a signal comes once a block's file is made, and before the block is entered."""
    script = (
        "import sys\nfrom pathlib import Path\nfrom gru_audio.__main__ import _end_now\n"
        "from gru_audio.files import atomic_path\n"
        "block = atomic_path(Path(sys.argv[1]))\nassert block.__enter__().exists()\n_end_now(7)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "a")], check=False)
    assert done.returncode == 7
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a" * 255, "ü" * 127, "a" * 251 + ".wav", "a." + "b" * 253, "a.b c", "a.ü"])
def test_a_name_of_any_length(tmp_path: Path, name: str) -> None:
    """The longest that a file system takes, and nothing else but what it refuses itself."""
    path = tmp_path / "folder" / name
    with atomic_path(path) as temporary:
        assert len(os.fsencode(temporary.name)) < 60
        temporary.write_text("whole")
    assert path.read_text() == "whole"


@pytest.mark.parametrize("name", ["a" * 256, "ü" * 128, "a" * 5_000])
def test_a_name_that_is_too_long_is_one_line(tmp_path: Path, name: str) -> None:
    with (
        pytest.raises(
            OutputError, match=r"cannot be written: File name too long; choose another place"
        ) as caught,
        atomic_path(tmp_path / name) as temporary,
    ):
        temporary.write_text("")
    assert len(str(caught.value)) < 500
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OutputError, match="File name too long"):
        require_writable(tmp_path / name / "folder")


@pytest.mark.parametrize("through_a_link", [False, True])
def test_what_is_no_file_is_not_replaced(tmp_path: Path, through_a_link: bool) -> None:
    """A pipe here; of /dev/null there is one for all programs."""
    path, pipe = tmp_path / "a.txt", tmp_path / "pipe"
    os.mkfifo(pipe)
    (path.symlink_to if through_a_link else path.hardlink_to)(pipe)
    with pytest.raises(OutputError, match="is a pipe, not a file; choose another"), atomic_path(path) as made:
        made.write_text("x")
    with pytest.raises(OutputError, match="is a pipe, not a file; choose another"):
        require_targets([(tmp_path / "source", path)])
    assert path.is_fifo()
    assert len(list(tmp_path.iterdir())) == 2


def test_a_planted_link_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were the name known beforehand, a link there would end the write; what it points to keeps its contents."""
    target = tmp_path / "precious"
    target.write_text("precious")
    monkeypatch.setattr("os.urandom", bytes)
    monkeypatch.setattr("gru_audio.files.MARK", "abcd")
    (tmp_path / ".gru-audio-abcd000000000000.partial.txt").symlink_to(target)
    with pytest.raises(OutputError, match="cannot be written"), atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_text("other")
    assert target.read_text() == "precious"


def test_a_file_that_was_exchanged_meanwhile_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    with (
        pytest.raises(OutputError, match="another program replaced it"),
        atomic_path(tmp_path / "a") as temporary,
    ):
        temporary.unlink()
        temporary.symlink_to(tmp_path / "precious")
    assert not (tmp_path / "a").exists()
    assert (tmp_path / "precious").read_text() == "precious"


def test_names_differ(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "a") as one, atomic_path(tmp_path / "a") as other:
        one.write_text("one")
        other.write_text("other")
        assert one != other
    assert (tmp_path / "a").read_text() == "one", "the outer one was the last to end"


def test_what_a_killed_process_left_goes_and_what_is_being_written_stays(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STAY, str(tmp_path / "a.txt")], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        half = Path(process.stdout.readline().decode().strip())
        remove_abandoned(tmp_path)
        assert half.read_bytes() == b"half", "its process lives"
        process.kill()
    assert half.exists()
    (tmp_path / ".mine.partial.txt").touch()
    (tmp_path / ".gru-audio-0123.partial").touch()
    with atomic_path(tmp_path / "b.txt") as temporary:
        temporary.write_text("whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".gru-audio-0123.partial",
        ".mine.partial.txt",
        "b.txt",
    ]


def test_another_machines_are_left_for_a_day(tmp_path: Path) -> None:
    """Its locks may not be seen here: what it writes now looks like what it left."""
    marks = [mark for mark in ("0000", "5555", "ffff") if mark != MARK][:2]
    fresh, old = (tmp_path / f".gru-audio-{mark}0123456789ab.partial" for mark in marks)
    for path in (fresh, old):
        path.touch()
    os.utime(old, (time.time() - 90_000, time.time() - 90_000))
    remove_abandoned(tmp_path)
    assert list(tmp_path.iterdir()) == [fresh]


def test_a_folder_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(_descriptor: int, _operation: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    left = tmp_path / ".gru-audio-0123456789ab.partial"
    left.touch()
    with atomic_path(tmp_path / "a") as temporary:
        temporary.write_text("whole")
    assert (tmp_path / "a").read_text() == "whole"
    assert left.exists(), "whose it is cannot be known"


@pytest.mark.timeout(60)
def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").write_text("a")
    (tmp_path / "link").symlink_to("file")
    for name, reason in {
        "pipe": "is a pipe, not a file",
        "socket": "is a socket, not a file",
        "": "is a folder, not a file",
        "nowhere": "no such file",
        "file/below": "no such file",
        "loop": "Too many levels of symbolic links",
        "a" * 300: "File name too long",
        "zero\0byte": "embedded null byte",
    }.items():
        assert why_no_file(tmp_path / name) == reason
        with pytest.raises((OSError, ValueError)):
            open_file(tmp_path / name)
    assert why_no_file(tmp_path / "link") is None
    with open_file(tmp_path / "link") as file:
        assert file.read() == b"a"


@pytest.mark.parametrize(
    ("soft", "hard", "expected", "raised"),
    [(1024, 4096, 2000, 2128), (1024, 1024, 896, 1024), (1024, -1, 2000, 2128), (9000, 9000, 2000, 9000)],
)
def test_as_many_files_are_opened_as_the_system_allows(
    soft: int, hard: int, expected: int, raised: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = [(soft, hard)]
    monkeypatch.setattr(resource, "getrlimit", lambda kind: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda kind, pair: limits.append(pair))
    assert files_open_at_once(2000) == expected
    assert limits[-1][0] == raised
    assert limits[-1][1] == hard
