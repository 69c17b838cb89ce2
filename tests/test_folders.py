"""How files are found in folders: the same for all commands."""

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from support.small import small_config

from gru_audio.bench.cases import random_voice
from gru_audio.config import MelConfig
from gru_audio.data.sources import plan_sources
from gru_audio.errors import AudioError, DatasetError
from gru_audio.folders import find_files, walk
from gru_audio.signal.mel_making import make_mels, plan_mels
from gru_audio.synthesis.jobs.batch import synthesize_files
from gru_audio.synthesis.jobs.plan import plan_jobs
from gru_audio.synthesis.vocoder import Vocoder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Audio, links that lead nowhere or in circles, of files and of folders, and a folder that leads to its own."""
    folder = tmp_path / "clips"
    (folder / "more").mkdir(parents=True)
    for name in ("b.wav", "z.wav", "more/m.wav"):
        soundfile.write(folder / name, np.zeros(1_600), 16_000)
    for name, target in {
        "a.wav": "a.wav",
        "c.wav": "d.wav",
        "d.wav": "c.wav",
        "n.wav": "nothing.wav",
    }.items():
        (folder / name).symlink_to(target)
    (folder / "more/round").symlink_to(folder)
    return folder


@pytest.fixture
def locked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder below it that may not be searched, for root neither."""
    place, scandir = folder / "locked", os.scandir
    place.mkdir()

    def refuse(path: str | Path | int = ".") -> object:
        if not isinstance(path, int) and os.fspath(path) == str(place):
            raise PermissionError(13, "Permission denied", str(place))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    return place


NAMES = ["a.wav", "b.wav", "c.wav", "d.wav", "n.wav", "z.wav", "more/m.wav"]
BAD = {"a.wav", "c.wav", "d.wav", "n.wav"}


@pytest.mark.parametrize("ordered", [True, False])
def test_a_link_in_a_circle_hides_no_other_file(folder: Path, ordered: bool) -> None:
    found = [path.relative_to(folder).as_posix() for path in walk(folder, ordered=ordered)]
    assert found == NAMES if ordered else sorted(found) == sorted(NAMES)


def test_all_commands_find_the_same(folder: Path, tmp_path: Path) -> None:
    assert {source.relative for source in plan_sources([folder]).sources} == set(NAMES)
    jobs = plan_jobs([folder], tmp_path / "out", ".wav")
    assert {job.source.relative_to(folder).as_posix() for job in jobs} == set(NAMES)
    results = synthesize_files(Vocoder(random_voice(small_config())), jobs, threads=1)
    assert {result.job.source.name for result in results if result.error} == BAD
    tasks = plan_mels([folder], tmp_path / "mels", ".npz", MelConfig())
    assert {made.task.source.name for made in make_mels(tasks, 1) if made.error} == BAD


def test_a_folder_that_cannot_be_searched_is_named_and_the_rest_made(
    folder: Path, locked: Path, tmp_path: Path
) -> None:
    says = f"{locked}: the folder cannot be searched (Permission denied); check who may read it"
    jobs = plan_jobs([folder], tmp_path / "out", ".wav")
    results = list(synthesize_files(Vocoder(random_voice(small_config())), jobs, threads=1))
    assert says in [result.error for result in results]
    assert (tmp_path / "out/z.wav").exists()
    tasks = plan_mels([folder], tmp_path / "mels", ".npz", MelConfig())
    assert says in [made.error for made in make_mels(tasks, 1)]
    assert (tmp_path / "mels/z.npz").exists()
    with pytest.raises(AudioError, match=r"locked: the folder cannot be searched"):
        find_files(locked, {".wav"}, "no audio")
    with pytest.raises(DatasetError, match=r"locked: the folder cannot be searched"):
        plan_sources([folder / "b.wav"], mels=folder)
