"""Debian's packages, downloaded and unpacked into a folder without being installed."""

import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

from gru_audio.errors import DatasetError


def unpacked(package: str, version: str, cache: Path, tell: Callable[[str], None]) -> tuple[Path, str]:
    """A package's unpacked files: those that are there already, else fetched with apt-get.

    Returns:
        The folder, which is there whole or not at all, and the package's version; `tell` is told where that
        is not the one that was asked for.

    Raises:
        DatasetError: the package cannot be had.
    """
    cache.mkdir(parents=True, exist_ok=True)
    wanted = cache / f"{package}_{version}"
    there = [wanted] if wanted.is_dir() else sorted(cache.glob(f"{package}_*"))
    folder = there[0] if there else _fetch(package, version, cache)
    found = folder.name.removeprefix(f"{package}_")
    if found != version:
        tell(f"{package}: version {found} taken, where the recipe's figures are of {version}")
    return folder, found


def _fetch(package: str, version: str, cache: Path) -> Path:
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=cache) as temporary:
        work = Path(temporary)
        reason = _run(["apt-get", "download", "-q", f"{package}={version}"], work)
        if reason:
            reason = _run(["apt-get", "download", "-q", package], work)
        debs = list(work.glob("*.deb"))
        if reason or not debs:
            raise DatasetError(
                f"{package}: apt-get cannot download it ({reason}); apt-get update, and on Ubuntu add universe"
            )
        reason = _run(["dpkg-deb", "-x", debs[0].name, "files"], work)
        if reason:
            raise DatasetError(f"{package}: dpkg-deb cannot unpack it ({reason}); download it again")
        _unzip_sounds(work / "files")
        folder = cache / f"{package}_{unquote(debs[0].name.split('_')[1])}"
        if not folder.exists():
            (work / "files").rename(folder)
    return folder


def _run(command: list[str], folder: Path) -> str:
    """Run a command; the last line of what it complains about, and nothing where it succeeds.

    Raises:
        DatasetError: there is no such program.
    """
    if shutil.which(command[0]) is None:
        raise DatasetError(f"{command[0]} is not on PATH; run this on Debian or Ubuntu")
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
    return (done.stderr.strip().splitlines() or ["no reason given"])[-1] if done.returncode else ""


def _unzip_sounds(folder: Path) -> None:
    """Unpack the sounds of a game's archives beside them, and remove the archives."""
    for archive in sorted(folder.rglob("*.pk3")):
        with zipfile.ZipFile(archive) as file:
            file.extractall(archive.parent, [name for name in file.namelist() if name.startswith("sound/")])
        archive.unlink()
