"""What people have: listings, layouts of folders, archives; each as its makers write it."""

import gzip
import io
import json
import os
import shutil
import tarfile
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import soundfile
from support.tones import RATE_HZ, tone, write

from gru_audio.config import Config, load_config
from gru_audio.data.dataset import Dataset
from gru_audio.data.inputs.speakers import SpeakerRule, speaker_of
from gru_audio.data.prepare import prepare
from gru_audio.data.sources import Source, plan_sources
from gru_audio.data.survey import survey
from gru_audio.errors import DatasetError
from gru_audio.text_files import read_lines, read_text

TINY = load_config("tiny", ["prep.min_duration_s=0.25", "prep.trim_db=0.0"])


def audio_bytes(pitch_hz: float = 110.0, kind: str = "WAV") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, tone(0.5, pitch_hz), RATE_HZ, format=kind)
    return file.getvalue()


def planned(*manifests: Path, **options: object) -> list[Source]:
    return list(plan_sources([], manifests=manifests, **options).sources)  # type: ignore[arg-type]


def told(*manifests: Path) -> dict[str, str]:
    return {source.name: source.speaker for source in planned(*manifests)}


# Text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_text_is_read_however_it_was_saved(tmp_path: Path, encoding: str, end: str) -> None:
    lines = ["file|text", "LJ001-0001|Grüße", "LJ001-0002|you"]
    path = tmp_path / "a.csv"
    path.write_bytes(end.join(lines).encode(encoding))
    assert list(read_lines(path)) == lines
    assert read_text(path) == "\n".join(lines)
    with gzip.open(tmp_path / "a.csv.gz", "wb") as file:
        file.write(path.read_bytes())
    assert list(read_lines(tmp_path / "a.csv.gz")) == lines


def test_a_config_may_begin_with_a_mark(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_bytes(b"\xef\xbb\xbf[prep]\r\nlongest_s = 9.0\r\n")
    assert load_config(tmp_path / "c.toml").prep.longest_s == 9.0


def test_damaged_text_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"\xff\xfea")
    (tmp_path / "b.csv").write_bytes(b"x" * (1 << 21))
    (tmp_path / "c.csv.gz").write_bytes(gzip.compress(b"a|b\n" * 999)[:-9])
    (tmp_path / "d.csv").write_bytes(b"")
    for name in ("a.csv", "b.csv", "c.csv.gz", "d.csv", "none.csv"):
        with pytest.raises(DatasetError, match=name) as caught:
            planned(tmp_path / name)
        assert "\n" not in str(caught.value)


# Listings

LISTINGS = {
    "ljspeech": ("a1|words here|words here\na2|more words|more words\n", ""),
    "ljspeech, a mark and a header": ("\ufeffID|Text|Normalised\na1|words|words\na2|more|more\n", ""),
    "ljspeech, numbers in words": ("a1|in 1984|in nineteen eighty-four\na2|yes|yes\n", ""),
    "piper, one speaker": ("a1|words here\na2|more words\n", ""),
    "piper": ("a1|ann|words here\na2|bob|more words\n", "ann bob"),
    "vits": ("wavs/a1.wav|0|words here\nwavs/a2.wav|1|more words\n", "0 1"),
    "path and speaker": ("path|speaker\nwavs/a1.wav|ann\nwavs/a2.wav|bob\n", "ann bob"),
    "csv": ('speaker,file_name,text\nann,a1.wav,"one, two"\nbob,a2.wav,three\n', "ann bob"),
    "csv, semicolons": ("Filename;Speaker ID\na1.wav;ann\na2.wav;bob\n", "ann bob"),
    "common voice": ("client_id\tpath\tsentence\nann\ta1.wav\ta \"quote\nbob\ta2.wav\tb\n", "ann bob"),
    "hugging face": ("file_name,transcription\nwavs/a1.wav,hello\nwavs/a2.wav,you\n", ""),
    "paths alone": ("wavs/a1.wav\nwavs/a2.wav\n", ""),
    "backslashes": ("wavs\\a1.wav|hello you\nwavs\\a2.wav|hello me\n", ""),
    "names in another tongue": ("Datei|Worte\na1|hallo du\na2|hallo ich\n", ""),
}  # fmt: skip


@pytest.mark.parametrize("form", LISTINGS)
def test_listings_of_each_form(tmp_path: Path, form: str) -> None:
    text, speakers = LISTINGS[form]
    for number in (1, 2):
        write(tmp_path / "mine" / "wavs" / f"a{number}.wav")
    listing = tmp_path / "mine" / "train.txt"
    listing.write_text(text)
    expected = dict(zip(["wavs/a1", "wavs/a2"], speakers.split() or ["mine", "mine"], strict=True))
    assert told(listing) == expected
    assert all(source.size_bytes > 0 for source in planned(listing))
    (tmp_path / "mine" / "metadata.csv").write_text(text)
    if "|" in text or "file" in text:  # what a folder itself is told by
        in_folder = plan_sources([tmp_path / "mine"])
        assert {source.name: source.speaker for source in in_folder.sources} == expected


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("header", ["", "ID|Transcription|Normalized\r\n", "wav|text|text\r\n"])
def test_ljspeech_loses_and_gains_no_clip(tmp_path: Path, encoding: str, header: str) -> None:
    lines = [f"LJ001-000{n}|words {n}|words {n}" for n in (1, 2, 3)]
    for line in lines:
        write(tmp_path / "LJ" / "wavs" / f"{line[:10]}.wav")
    (tmp_path / "LJ" / "metadata.csv").write_bytes((header + "\r\n".join(lines)).encode(encoding))
    plan = plan_sources([tmp_path / "LJ"])
    assert [source.name for source in plan.sources] == [f"wavs/{line[:10]}" for line in lines]
    assert plan.ignored == 1
    assert ("with a line of names" if header else "without a line of names") in plan.notes[0]


def test_a_listed_recording_that_is_missing_is_told(tmp_path: Path) -> None:
    write(tmp_path / "wavs/a1.wav")
    (tmp_path / "train.csv").write_text("a1|hello you\na2|hello me\n")
    summary = prepare([], tmp_path / "out", TINY, manifests=[tmp_path / "train.csv"], jobs=1)
    assert summary.clips == 1
    assert summary.skipped == ((str(tmp_path / "wavs/a2.wav"), "No such file or directory; check the path"),)


def test_what_a_listing_cannot_be_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a1.wav")
    (tmp_path / "notes.pdf").touch()
    for name, text, reason in (
        ("short.csv", "file,speaker,text\na1.wav,ann,x\na1.wav\n", "line 3 has 1 columns"),
        ("a.jsonl", '{"text": "hello"}\n', "line 1: names no audio file"),
        ("b.jsonl", '[{"audio_filepath": "a1.wav"}]\n', "line 1: list in place of an object"),
        ("c.jsonl", "{" * 100_000 + "\n", "line 1: not JSON"),
        ("d.jsonl", '{"audio_filepath": "a1.wav", "offset": 1e999}\n', "is no time in seconds"),
        ("e.jsonl", '{"audio_filepath": "a1.wav", "offset": ' + "9" * 5000 + "}\n", "line 1: "),
        (
            "h.jsonl",
            '{"audio_filepath": "a1.wav", "x": ' + "[" * 60 + "]" * 60 + "}\n",
            "nested deeper than 32",
        ),
        (
            "i.jsonl",
            '{"audio_filepath": "a1.wav", "duration": NaN, "offset": NaN}\n',
            "is no time in seconds",
        ),
        ("wav.scp", "u1 sox a.flac -t wav - |\n", "a command in a file's place, which is not run"),
        ("f.scp", "u1\n", "line 1 has 1 columns in place of 2"),
        ("open.csv", 'a1.wav,ann\na1.wav,"not closed\na1.wav,bob\n', "line 2: a quote that is not closed"),
        (
            "long.csv",
            'a1.wav,ann\na1.wav,"not closed\n' + 'a1.wav,"bob"\n' * 99,
            "line 2: a quote that is not",
        ),
        (
            "j.jsonl",
            '{"sources": [{"type": "file", "source": "a1.wav"}], "transforms": [{}]}',
            "has transforms",
        ),
        (
            "g.jsonl",
            '{"id": "x", "recording": {"sources": [{"type": "command", "source": "rm"}]}}\n',
            "type 'command'",
        ),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(DatasetError, match=reason) as caught:
            planned(tmp_path / name)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 400
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(DatasetError, match=r"pipe\.csv: is a pipe, not a file; check"):
        plan_sources([tmp_path / "pipe.csv"])
    for name, reason in (
        ("pipe.csv", "is a pipe, not a file; check"),
        ("gone.csv", "no such file or folder; check"),
    ):
        with pytest.raises(DatasetError, match=reason):
            planned(tmp_path / name)
    (tmp_path / "none").mkdir()
    with pytest.raises(DatasetError, match="neither tar files"):
        planned(tmp_path / "none")


def test_what_of_a_listing_is_not_read_may_be_no_number(tmp_path: Path) -> None:
    """As Python writes it where nothing is known."""
    write(tmp_path / "a1.wav")
    (tmp_path / "a.jsonl").write_text(
        '{"audio_filepath": "a1.wav", "snr": NaN, "wer": -Infinity, "f": 1e999}\n'
    )
    assert len(planned(tmp_path / "a.jsonl")) == 1


def test_a_quoted_cell_may_have_lines(tmp_path: Path) -> None:
    for number in range(1_200):
        (tmp_path / f"{number}.wav").touch()
    rows = [f'{number}.wav,{number % 5},"two\nlines, and ""more"""\n' for number in range(1_200)]
    (tmp_path / "a.csv").write_text("path,speaker,text\n" + "".join(rows))
    assert told(tmp_path / "a.csv") == {str(number): str(number % 5) for number in range(1_200)}


def test_no_command_is_ever_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.wav")
    (tmp_path / "a.scp").write_text("a a.wav\nb | touch owned\n")
    (tmp_path / "b.jsonl").write_text('{"audio_filepath": "a.wav"}\n{"audio_filepath": "touch owned |"}\n')
    (tmp_path / "c.txt").write_text("a.wav\ntouch owned |\n$(touch owned)\n`touch owned`\n")
    for name in ("a.scp", "b.jsonl", "c.txt"):
        found = survey([], TINY, manifests=[Path(name)], jobs=1)
        assert found.files == 1
        assert all("No such file" in reason for _, reason in found.unusable), found.unusable
    assert not (tmp_path / "owned").exists()


def test_kaldi(tmp_path: Path) -> None:
    write(tmp_path / "audio/x.wav", 3)
    write(tmp_path / "audio/y.wav", 3)
    (tmp_path / "wav.scp").write_text(f"rec1 audio/x.wav\nrec2 {tmp_path}/audio/y.wav\n")
    (tmp_path / "utt2spk").write_text("rec1 ann\nrec2 bob\nutt1 cal\nutt2 dee\n")
    assert told(tmp_path / "wav.scp") == {"rec1": "ann", "rec2": "bob"}
    (tmp_path / "segments").write_text("utt1 rec1 0.5 1.5\nutt2 rec2 1.0 -1\n".replace("-1", "3"))
    assert told(tmp_path / "wav.scp") == {"utt1": "cal", "utt2": "dee"}
    prepare([], tmp_path / "out", TINY, manifests=[tmp_path / "wav.scp"], jobs=1)
    dataset = Dataset.open(tmp_path / "out")
    original, _ = soundfile.read(tmp_path / "audio/x.wav", dtype="int16")
    clip = next(clip for clip in dataset.clips() if clip.name == "utt1")
    np.testing.assert_array_equal(
        dataset.audio(clip, 0, RATE_HZ), original[RATE_HZ // 2 : RATE_HZ + RATE_HZ // 2]
    )


def test_nemo_and_lhotse(tmp_path: Path) -> None:
    write(tmp_path / "x.wav", 3)
    write(tmp_path / "y.wav", 3)
    nemo = [
        {"audio_filepath": "x.wav", "duration": 3.0, "text": "whole", "speaker": 7},
        {"audio_filepath": str(tmp_path / "y.wav"), "offset": 1.0, "duration": 1.5},
    ]
    (tmp_path / "nemo.json").write_text("\n".join(map(json.dumps, nemo)))
    assert told(tmp_path / "nemo.json") == {"x": "7", "y@1.000-2.500": tmp_path.name}
    recording = {
        "id": "rec", "duration": 3.0, "sources": [{"type": "file", "channels": [0], "source": str(tmp_path / "x.wav")}],
    }  # fmt: skip
    cuts = [
        {"id": "cut0", "type": "MonoCut", "start": 0, "duration": 3.0, "recording": recording,
         "supervisions": [{"speaker": "ann"}]},
        {"id": "cut1", "type": "MonoCut", "start": 0.5, "duration": 1.0, "recording": recording},
    ]  # fmt: skip
    with gzip.open(tmp_path / "cuts.jsonl.gz", "wt") as file:
        file.write("\n".join(map(json.dumps, cuts)))
    found = {source.name: source for source in planned(tmp_path / "cuts.jsonl.gz")}
    assert {name: source.speaker for name, source in found.items()} == {"cut0": "ann", "cut1": tmp_path.name}
    assert (found["cut0"].stop_s, found["cut1"].start_s, found["cut1"].stop_s) == (None, 0.5, 1.5)
    (tmp_path / "recordings.jsonl").write_text(json.dumps(recording))
    assert list(told(tmp_path / "recordings.jsonl")) == ["rec"]


# Archives


def make_tar(path: Path, samples: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") if path.suffix == ".gz" else tarfile.open(path, "w") as archive:
        for name, data in samples.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_webdataset(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "wds").mkdir()
    pitches = {"000001": 110.0, "000002": 130.0, "ann/000003": 150.0, "000004": 170.0}
    for shard in (0, 1):
        samples: dict[str, bytes] = {}
        for key in list(pitches)[2 * shard : 2 * shard + 2]:
            samples[f"{key}.json"] = json.dumps({"speaker": "bob"} if key == "000002" else {}).encode()
            samples[f"{key}.flac"] = audio_bytes(pitches[key], "FLAC")
            samples[f"{key}.txt"] = b"words"
        make_tar(tmp_path / "wds" / f"shard-{shard}{suffix}", samples)
    prepare([], tmp_path / "out", TINY, manifests=[tmp_path / "wds"], jobs=1)
    dataset = Dataset.open(tmp_path / "out")
    assert {clip.name: clip.speaker for clip in dataset.clips()} == {
        "shard-0/000001": "wds", "shard-0/000002": "bob", "shard-1/ann/000003": "ann", "shard-1/000004": "wds",
    }  # fmt: skip
    for clip in dataset.clips():
        pitch_hz = pitches[clip.name.partition("/")[2]]
        wanted, _ = soundfile.read(io.BytesIO(audio_bytes(pitch_hz)), dtype="int16")
        np.testing.assert_allclose(dataset.audio(clip, 0, wanted.size), wanted, atol=1)  # FLAC rounds


def test_damaged_archives_and_their_members_are_named(tmp_path: Path) -> None:
    whole = make_tar(
        tmp_path / "a.tar", {"1.wav": audio_bytes(), "2.wav": b"words", "3.wav": audio_bytes(150)}
    )
    summary = prepare([], tmp_path / "out", TINY, manifests=[whole], jobs=1)
    assert summary.clips == 2
    assert summary.skipped[0][0] == f"{whole}: 2.wav"
    assert summary.skipped[0][1].startswith("libsndfile cannot read it")
    (tmp_path / "b.tar").write_bytes(b"words" * 999)
    (tmp_path / "c.tar").write_bytes(whole.read_bytes()[:3_000])
    for name in ("b.tar", "c.tar"):
        with pytest.raises(DatasetError, match=f"{name}: no whole tar archive"):
            planned(tmp_path / name)
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "a.tar").write_bytes(whole.read_bytes())
    with pytest.raises(DatasetError, match=r"found 1 × \.tar; .*give the folder as --manifest"):
        plan_sources([tmp_path / "only"])


@pytest.mark.parametrize("kind", ["parquet", "arrow stream", "arrow file", "bytes alone"])
def test_hugging_face_datasets_on_disk(tmp_path: Path, kind: str) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    rows = [{"bytes": audio_bytes(100 + 20 * n), "path": f"clip{n}.wav"} for n in range(5)]
    if kind == "bytes alone":
        table = pyarrow.table({"audio": [row["bytes"] for row in rows], "speaker_id": [0, 0, 1, 1, 2]})
    else:
        table = pyarrow.table({"speaker_id": [0, 0, 1, 1, 2], "audio": rows, "text": ["x"] * 5})
    folder = tmp_path / "hf"
    folder.mkdir()
    if kind.startswith("arrow"):
        (folder / "state.json").write_text("{}")
        make = pyarrow.ipc.new_stream if kind == "arrow stream" else pyarrow.ipc.new_file
        with (
            pyarrow.OSFile(str(folder / "data-00000-of-00001.arrow"), "wb") as sink,
            make(sink, table.schema) as out,
        ):
            out.write_table(table, max_chunksize=2)
    else:
        parquet.write_table(table, folder / "train-00000-of-00001.parquet", row_group_size=2)
    prepare([], tmp_path / "out", TINY, manifests=[folder], jobs=1)
    dataset = Dataset.open(tmp_path / "out")
    assert [clip.speaker for clip in dataset.clips()] == ["0", "0", "1", "1", "2"]
    for number, clip in enumerate(dataset.clips()):
        assert clip.name.endswith(f"{number:06}" if kind == "bytes alone" else f"clip{number}")
        wanted, _ = soundfile.read(io.BytesIO(audio_bytes(100 + 20 * number)), dtype="int16")
        np.testing.assert_array_equal(dataset.audio(clip, 0, wanted.size), wanted)


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_rows_that_name_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    """Beside the dataset, from here, anywhere; what has neither bytes nor a file is told."""
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    monkeypatch.chdir(tmp_path)
    for name in ("hf/beside.wav", "here.wav", "far/away.wav"):
        write(tmp_path / name)
    names = ["beside.wav", "here.wav", str(tmp_path / "far/away.wav"), None]
    rows = [{"bytes": None, "path": name} for name in names]
    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    table = pyarrow.table({"audio": pyarrow.array(rows, type=kind)})
    if suffix == ".parquet":
        parquet.write_table(table, tmp_path / "hf/a.parquet")
    else:
        with (
            pyarrow.OSFile(str(tmp_path / "hf/a.arrow"), "wb") as sink,
            pyarrow.ipc.new_stream(sink, table.schema) as out,
        ):
            out.write_table(table)
    found = survey([], TINY, manifests=[Path("hf")], jobs=1)
    assert found.files == 3
    ((where, reason),) = found.unusable
    assert (where, "the row has no bytes" in reason) == (f"hf/a{suffix}: row 3", True)


SAVED = Path(__file__).parent / "saved_by_datasets"
"""Four tones in two files, as `Dataset.save_to_disk(…, num_shards=2)` of datasets 5.2.0 left them, an Audio feature."""


def test_a_folder_that_datasets_saved(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    both = tmp_path / "both"  # as a DatasetDict lies
    for split in ("train", "test"):
        shutil.copytree(SAVED, both / split)
    left = SAVED / "data-00001-of-00002.arrow"
    shutil.copy(left, both / "train" / "data-00002-of-00003.arrow")  # of an earlier saving
    shutil.copy(left, both / "train" / "cache-0123456789abcdef.arrow")
    (both / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    plan = plan_sources([], manifests=[both])
    assert [(source.name, source.speaker) for source in plan.sources] == [
        (f"{split}/data-0000{number // 2}-of-00002/{number}", ("ann", "bob")[number % 2])
        for split in ("test", "train")
        for number in range(4)
    ]
    found = survey([], TINY, manifests=[SAVED], jobs=1)
    assert (found.files, found.formats, found.sample_rates_hz) == (4, {".wav": 4}, {8_000: 4})
    assert found.duration_s == pytest.approx(0.6)

    with pytest.raises(DatasetError, match=r"dataset_dict.json: belongs to a dataset .* --manifest \S+both"):
        plan_sources([], manifests=[both / "dataset_dict.json"])
    (both / "test" / "data-00001-of-00002.arrow").unlink()
    with pytest.raises(
        DatasetError, match=r"test: lacks data-00001-of-00002.arrow, which its state.json names"
    ):
        plan_sources([], manifests=[both])


# Speakers


@pytest.mark.parametrize(
    ("path", "speaker"),
    [
        ("by_book/female/lisa_caputo/malavoglia/wavs/m_01.wav", "lisa_caputo"),
        ("it_IT/by_book/male/riccardo_fasol/galatea/wavs/g_01.wav", "riccardo_fasol"),
        ("by_book/mix/some_book/wavs/a.wav", "some_book"),
        ("train/wav/SSB0005/SSB00050001.wav", "SSB0005"),
        ("mls_german/train/audio/1054/1599/1054_1599_000000.flac", "1054"),
        ("TRAIN/DR1/FCJF0/SA1.WAV", "FCJF0"),
        ("dev/aac/id00012/21Uxsk56VDQ/00001.m4a", "id00012"),
        ("wav48/p225/p225_001.wav", "p225"),
        ("jvs001/parallel100/wav24kHz16bit/V_001.wav", "jvs001"),
        ("wav/arctic_a0001.wav", "root"),
        ("clips/common_voice_1.mp3", "root"),
        ("2024-01-31/ann/x.wav", "ann"),
        ("2024-01-31/x.wav", "root"),
        ("ann/day 2/x.wav", "ann"),
        ("0001/Angry/0001_000351.wav", "0001"),
        ("x.wav", "root"),
    ],
)
def test_speakers_are_found_by_looking_deeper(path: str, speaker: str) -> None:
    assert speaker_of(PurePosixPath(path), "root") == speaker


def test_speakers_by_level_and_pattern() -> None:
    path = PurePosixPath("en/studio/ann/day 2/0007_bob_x.wav")
    for level, speaker in ((0, "root"), (1, "en"), (3, "ann"), (-1, "day 2"), (-4, "en"), (-5, "root")):
        assert SpeakerRule(level=level).speaker(path, "root") == speaker
    assert SpeakerRule(pattern=r"studio/([^/]+)/").speaker(path, "root") == "ann"
    assert SpeakerRule(pattern=r"(\d+)_(?P<speaker>[a-z]+)_").speaker(path, "root") == "bob"
    for level in (5, -6):
        with pytest.raises(DatasetError, match="lies 4 folders below the input"):
            SpeakerRule(level=level).speaker(path, "root")
    with pytest.raises(DatasetError, match="is not in it"):
        SpeakerRule(pattern="speaker=(.+)/").speaker(path, "root")
    for pattern, reason in (("(", "no regular expression"), ("abc", "has no group")):
        with pytest.raises(DatasetError, match=reason):
            SpeakerRule(pattern=pattern)


def test_half_the_data_does_not_go_to_valid(tmp_path: Path) -> None:
    """As it once did with split_by = speaker, when `by_book` was taken for one."""
    for number in range(12):
        write(
            tmp_path
            / f"it_IT/by_book/{('female', 'male')[number % 2]}/name{number % 4}/book/wavs/{number}.wav",
            pitch_hz=110.0 + number,
        )
    prep = TINY.prep.model_copy(update={"split_by": "speaker"})
    config: Config = TINY.model_copy(update={"prep": prep})
    summary = prepare([tmp_path / "it_IT"], tmp_path / "out", config, jobs=1)
    assert summary.speakers == {f"name{n}": 3 for n in range(4)}
    assert summary.splits["train"] >= 6


@pytest.mark.parametrize("row", ["a\0b.wav", "a\0b/c.wav", "/\0", "c/\0.wav"])
@pytest.mark.parametrize("listing", ["list.csv", "wav.scp"])
def test_a_name_with_a_zero_byte_is_one_of_those_that_fail(tmp_path: Path, listing: str, row: str) -> None:
    write(tmp_path / "whole.wav", 0.5, 110.0)
    first = "x " if listing == "wav.scp" else ""
    (tmp_path / listing).write_text(f"{first}whole.wav\n{first and 'y '}{row}\n")
    summary = prepare([], tmp_path / "out", TINY, manifests=[tmp_path / listing], jobs=1)
    assert len(summary.skipped) == 1
    assert "null" in str(summary.skipped[0])
    assert Dataset.open(tmp_path / "out").n_clips == 1
