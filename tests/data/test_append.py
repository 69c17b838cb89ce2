"""Adding to a dataset: nothing is redone, nothing is lost, and each part can still be mended."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.tones import write

from gru_audio.config import Config, load_config
from gru_audio.data import shard_making, splits
from gru_audio.data.dataset import Dataset
from gru_audio.data.outcome import Summary
from gru_audio.data.prepare import prepare
from gru_audio.errors import DatasetError, OutputError
from gru_audio.progress import Progress

CONFIG = load_config("tiny", ["prep.min_duration_s=0.25"])


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_making, "GROUP_FILES", 2)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    for number in range(5):
        write(tmp_path / "corpus" / "ann" / f"{number}.wav", pitch_hz=100 + 10 * number)
    return tmp_path / "corpus"


def add(source: Path, out: Path, config: Config = CONFIG, **options: object) -> Summary:
    return prepare([source], out, config, jobs=1, append=True, **options)  # type: ignore[arg-type]


def shards(out: Path) -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in sorted(out.glob("shard-*"))}


def rows(out: Path) -> list[tuple[str, str, str]]:
    return [(clip.name, clip.speaker, clip.split) for clip in Dataset.open(out).clips()]


def test_what_is_new_is_added_and_nothing_is_redone(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare([corpus], out, CONFIG, jobs=1, licence="CC0")
    before, listed = shards(out), rows(out)
    for number in range(3):
        write(corpus / "aaron" / f"{number}.wav", pitch_hz=200 + 10 * number)  # sorts before what is there
    summary = add(corpus, out, licence="CC BY 4.0")
    assert (summary.known, summary.made_shards, summary.kept_shards, summary.clips) == (5, 2, 3, 8)
    after = shards(out)
    assert {name: after[name] for name in before} == before
    assert rows(out)[:5] == listed
    assert {name for name, _, _ in rows(out)[5:]} == {f"aaron/{n}" for n in range(3)}
    assert Dataset.open(out).licence == "CC0 and CC BY 4.0"
    assert add(corpus, out).made_shards == 0
    assert shards(out) == after


def test_another_folder_is_added_with_names_of_its_own(corpus: Path, tmp_path: Path) -> None:
    out, other = tmp_path / "out", tmp_path / "other"
    prepare([corpus], out, CONFIG, jobs=1)
    write(other / "ann" / "0.wav", pitch_hz=300)
    assert add(other, out).clips == 6
    assert rows(out)[-1][:2] == ("ann/0 (2)", "ann")
    before = shards(out)
    assert add(other, out).made_shards == 0
    assert shards(out) == before


def test_the_first_run_again_leaves_what_was_added(corpus: Path, tmp_path: Path) -> None:
    out, other = tmp_path / "out", write(tmp_path / "other/x.wav", pitch_hz=300).parent
    prepare([corpus], out, CONFIG, jobs=1)
    add(other, out)
    whole, listed = shards(out), rows(out)
    (out / "shard-00001.safetensors").write_bytes(b"damaged")
    with pytest.raises(DatasetError, match=r"shard-00001\.safetensors: missing or damaged"):
        Dataset.open(out)
    assert prepare([corpus], out, CONFIG, jobs=1).made_shards == 1
    assert {name: data for name, (data, _) in shards(out).items()} == {
        name: data for name, (data, _) in whole.items()
    }
    assert rows(out) == listed
    (out / "shard-00003.safetensors").unlink()
    add(other, out)
    assert rows(out) == listed


def test_what_is_there_already_stays_in_its_split(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copies of what is held out must not be trained on; where older versions divided them, that is said."""
    out, copies = tmp_path / "out", tmp_path / "copies"
    prepare([corpus], out, CONFIG, jobs=1)
    before = {Path(name).name: split for name, _, split in rows(out)}
    shutil.copytree(corpus, copies)
    assert add(copies, out).warnings == ()
    assert [split for _, _, split in rows(out)[5:]] == [before[f"{number}"] for number in range(5)]
    assert len(set(before.values())) > 1

    monkeypatch.setattr(splits, "equal_rows", lambda digests: ())
    mixed = prepare([corpus, copies], tmp_path / "mixed", CONFIG, jobs=1)
    told = [line for line in mixed.warnings if "in several splits" in line]
    divided = [
        names for names in mixed.duplicates if len({split_of(tmp_path / "mixed", n) for n in names}) > 1
    ]
    assert len(divided) > 1
    assert [line.split(" in several splits")[0] for line in told] == [
        f"{len(divided)} sets of equal clips lie"
    ]


def split_of(out: Path, wanted: str) -> str:
    return next(split for name, _, split in rows(out) if name == wanted)


def test_a_lost_index_is_made_again(corpus: Path, tmp_path: Path) -> None:
    out, other = tmp_path / "out", write(tmp_path / "other/x.wav", pitch_hz=300).parent
    prepare([corpus], out, CONFIG, jobs=1)
    add(other, out)
    listed, index = rows(out), next(out.glob("index-*"))
    for damage in (b"", index.read_bytes()[:-1], index.read_bytes()[:-1] + b"\xff"):
        index.write_bytes(damage)
        with pytest.raises(DatasetError, match=r"index-.*missing or damaged"):
            Dataset.open(out)
        prepare([corpus], out, CONFIG, jobs=1)
        assert [row[:2] for row in rows(out)] == [row[:2] for row in listed]


def test_an_interrupted_addition_goes_on_and_spoils_nothing(corpus: Path, tmp_path: Path) -> None:
    out, other = tmp_path / "out", tmp_path / "other"
    prepare([corpus], out, CONFIG, jobs=1)
    listed = rows(out)
    for number in range(6):
        write(other / f"{number}.wav", pitch_hz=200 + 10 * number)

    def interrupt(report: Progress) -> None:
        if report.done >= 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        add(other, out, progress=interrupt)
    assert rows(out) == listed
    summary = add(other, out)
    assert (summary.clips, summary.made_shards) == (11, 2)


def test_other_settings_cannot_be_added(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare([corpus], out, CONFIG, jobs=1)
    other = load_config("tiny", ["prep.trim_db=11.0"])
    with pytest.raises(OutputError, match=r"made with other settings \(prep\.trim_db .*add with the same"):
        add(corpus, out, other)
    stored = json.loads((out / "dataset.json").read_text())
    first = {"version": 1, "parts": [], "splits": {"valid": [], "test": []}, "shards": []}
    (out / "dataset.json").write_text(json.dumps({**stored, **first}))
    with pytest.raises(OutputError, match="made by an older version"):
        add(corpus, out)
    write(corpus / "new.wav")
    with pytest.raises(OutputError, match="--append adds what is new"):
        (out / "dataset.json").write_text(json.dumps(stored))
        prepare([corpus], out, CONFIG, jobs=1)


def test_a_changed_file_is_added_anew(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare([corpus], out, CONFIG, jobs=1)
    write(corpus / "ann/3.wav", 0.7, pitch_hz=400)
    summary = add(corpus, out)
    assert (summary.known, summary.clips) == (4, 6)


LOCKED = """
import sys, time
from pathlib import Path
from gru_audio.data.folder_lock import folder_lock
with folder_lock(Path(sys.argv[1]), "prep", RuntimeError):
    print("locked", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("append", [False, True])
def test_a_folder_has_one_prep_at_a_time(tmp_path: Path, append: bool) -> None:
    """Of two that append at the same time the clips of one were lost."""
    write(tmp_path / "a/x.wav")
    out = tmp_path / "out"
    with subprocess.Popen([sys.executable, "-c", LOCKED, str(out)], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(
            OutputError, match=rf"another gru-audio prep works in it \(process {other.pid}\); wait"
        ):
            prepare([tmp_path / "a"], out, CONFIG, jobs=1, append=append)
        other.kill()
    assert prepare([tmp_path / "a"], out, CONFIG, jobs=1, append=append).clips == 1
    assert not (out / ".lock").exists()


def test_a_prep_that_cannot_begin_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such file or folder"):
        prepare([tmp_path / "nowhere"], tmp_path / "out", CONFIG, jobs=1)
    assert not (tmp_path / "out").exists()
