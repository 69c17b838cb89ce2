"""Nothing in the package needs POSIX where another way serves: all of it is imported, and used, as if on Windows."""

import os
import subprocess
import sys
from pathlib import Path, PureWindowsPath

from gru_audio.data.inputs import archives

ROOT = Path(__file__).parents[1]
BEGIN = """
import sys
from pathlib import Path
from support.windows import become_windows

folder = Path(sys.argv[1])
(folder / "core").mkdir()
become_windows(folder / "core")
"""
IMPORT = """
import importlib, pkgutil
import gru_audio

names = [module.name for module in pkgutil.walk_packages(gru_audio.__path__, "gru_audio.")]
for name in names:
    if name.endswith("__main__"):
        continue
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        assert error.name == "triton", name  # which torch brings for CUDA alone
assert len(names) > 150
"""
FILES = """
folder = Path(sys.argv[1]) / "files"
from gru_audio import files
from gru_audio.errors import TrainingError
from gru_audio.training.saved import checkpoint
from gru_audio.data.folder_lock import folder_lock

checkpoint.flush_folder(folder)
left = folder / ".gru-audio-0123456789ab.partial"
left.touch()
with left.open("rb"):
    files.remove_abandoned(folder)
    assert left.exists(), "another has it open"
with files.atomic_path(folder / "file") as temporary:
    temporary.write_text("old", encoding="utf-8")
assert not left.exists()
try:
    with files.atomic_path(folder / "file") as temporary:
        temporary.write_text("new", encoding="utf-8")
        1 / 0
except ZeroDivisionError:
    pass
assert (folder / "file").read_text(encoding="utf-8") == "old"
assert sorted(path.name for path in folder.iterdir()) == ["file"]
with folder_lock(folder / "run", "train", TrainingError):
    try:
        with folder_lock(folder / "run", "train", TrainingError):
            raise AssertionError("two at once")
    except TrainingError as error:
        assert "another gru-audio train works in it (process " in str(error)
assert not (folder / "run").exists()
"""
WORK = """
folder = Path(sys.argv[1]) / "work"
import soundfile
from gru_audio.cli import main
from gru_audio.config import to_toml
from support.trained import make_dataset, small_config


def command(*words):
    sys.argv = ["gru-audio", *map(str, words)]
    try:
        main()
    except SystemExit as end:
        assert not end.code, words


dataset, run = make_dataset(folder, 110.0, 150.0, 170.0), folder / "run"
(folder / "more").mkdir()
audio, rate_hz = soundfile.read(folder / "audio" / "speaker0" / "110.wav")
soundfile.write(folder / "more" / "new.wav", audio / 2, rate_hz)
for n_steps in (3, 6):
    config = to_toml(small_config("prep.valid_fraction=0.3", f"train.steps={n_steps}"))
    (folder / f"{n_steps}.toml").write_text(config, encoding="utf-8")
command("train", dataset, "-c", folder / "3.toml", "-o", run, "--threads", "1", "--quiet")
command("train", dataset, "-c", folder / "6.toml", "-o", run, "--resume", "--threads", "1", "--quiet")
command("prep", folder / "more", "-o", dataset, "-c", folder / "6.toml", "--append", "--jobs", "1", "--quiet")
command("prep", folder / "more", "-o", dataset, "-c", folder / "6.toml", "--append", "--jobs", "1", "--quiet")
command("info", dataset)
command("info", run)
command("synthesize", folder / "audio", "-o", folder / "spoken", "--voice", run, "--jobs", "1", "--quiet")
command("synthesize", folder / "audio", "-o", folder / "spoken", "--voice", run, "--jobs", "1", "--quiet")
command("mel", folder / "audio", "-o", folder / "mels", "--voice", run, "--jobs", "1", "--quiet")
command("export", "--voice", run, "-o", folder / "voice.gru", "--quiet")
found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
assert {"run/voice.safetensors", "spoken/speaker0/150.wav", "mels/speaker0/150.npz", "voice.gru"} <= found, found
assert not [name for name in found if "partial" in name or ".lock" in name], found
"""


def test_it_is_imported_and_used(tmp_path: Path) -> None:
    """All in one process, which takes seconds to begin."""
    (tmp_path / "files").mkdir()
    (tmp_path / "work").mkdir()
    done = subprocess.run(
        [sys.executable, "-X", "warn_default_encoding", "-c", BEGIN + IMPORT + FILES + WORK, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests"), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_names_within_a_dataset_have_slashes() -> None:
    assert archives.stem_of(PureWindowsPath(r"speakers\anna.tar.gz")) == "speakers/anna"
