"""Nothing in the package needs POSIX where another way serves."""

import subprocess
import sys
from pathlib import Path

HIDING = """
import importlib, os, pkgutil, sys
for name in ("fcntl", "grp", "pwd", "resource", "termios", "tty", "pty", "syslog", "readline", "curses"):
    sys.modules[name] = None
for name in ("getloadavg", "geteuid", "getuid", "getgid", "fork", "killpg", "setsid", "mkfifo", "O_DIRECTORY"):
    vars(os).pop(name, None)
"""

IMPORTING = """
import gru_audio
for module in pkgutil.walk_packages(gru_audio.__path__, "gru_audio."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""

SPEAKING = """
import pathlib, numpy, gru_audio
from gru_audio.bench.machine import this_machine
from gru_audio.files import atomic_path
from gru_audio.training.saved import checkpoint
folder, name, open_ = pathlib.Path(sys.argv[1]), os.name, os.open
os.name, os.open = "nt", None  # Windows opens no folders
checkpoint._flush_folder(folder)
os.name, os.open = name, open_
flush = os.fsync
os.fsync = lambda descriptor: (os.write(descriptor, b""), flush(descriptor))  # Windows: of what may be written to
with atomic_path(folder / "file") as temporary:
    temporary.write_text("text")
assert (folder / "file").read_text() == "text"
assert this_machine().load is None
assert gru_audio.load().synthesize(numpy.full((3, 80), -5.0)).size == 600
"""


def test_everything_is_imported_without_posix() -> None:
    subprocess.run([sys.executable, "-c", HIDING + IMPORTING], check=True)


def test_what_windows_lacks_is_not_called(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", HIDING + SPEAKING, str(tmp_path)], check=True)
