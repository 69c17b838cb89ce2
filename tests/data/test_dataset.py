"""Reading a dataset: slices, errors, pickling; and how clips are split."""

import dataclasses
import json
import multiprocessing
import os
import pickle
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.clips import splits_of

from gru_audio.config import MEL_PRESETS, MelConfig, PrepConfig, SignalConfig
from gru_audio.data.dataset import Dataset
from gru_audio.data.splits import OPEN, TEST, TRAIN, VALID, split_keys
from gru_audio.data.stored.clips import Clip
from gru_audio.data.stored.shard_reader import ShardReader
from gru_audio.data.stored.shards import (
    ClipRecord,
    DamagedShardError,
    encode_shard,
    is_shard,
    lags_key,
    pcm_key,
    read_shard_header,
    read_verified,
)
from gru_audio.errors import DatasetError
from gru_audio.voice.tensor_file import digest_of

HOP = MelConfig().hop_samples


def pcm_of(name: str, n_frames: int = 20) -> NDArray[np.int16]:
    seed = int(digest_of(name.encode())[:8], 16)
    return np.random.default_rng(seed).integers(-32_768, 32_768, n_frames * HOP).astype(np.int16)


def lags_of(name: str, n_frames: int = 20) -> NDArray[np.float32]:
    return np.asarray(np.abs(pcm_of(name, n_frames)[:n_frames] / 110), np.float32)


def record(name: str, speaker: str = "s") -> ClipRecord:
    return ClipRecord(name, speaker, f"{name}.wav", 20 * HOP, digest_of(pcm_of(name)), 0)


def write_dataset(folder: Path, shards: Mapping[str, list[str]], /, **changes: object) -> Path:
    """A dataset of noise; the clips whose names start with v validate."""
    folder.mkdir(exist_ok=True)
    for shard, names in shards.items():
        tensors: dict[str, NDArray[Any]] = {pcm_key(name): pcm_of(name) for name in names}
        tensors |= {lags_key(name): lags_of(name) for name in names}
        _, encoded = encode_shard("made of noise", map(record, names), [("bad", "why")], tensors)
        (folder / shard).write_bytes(encoded)
    valid = [name for names in shards.values() for name in names if name.startswith("v")]
    contents = {
        "format": "gru-audio dataset",
        "version": 1,
        "licence": "CC0",
        "source_note": "noise",
        "mel": MelConfig().model_dump(),
        "signal": SignalConfig().model_dump(),
        "prep": PrepConfig().model_dump(),
        "splits": {"valid": valid, "test": []},
        "shards": list(shards),
        **changes,
    }
    (folder / "dataset.json").write_text(json.dumps(contents))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "data", {"a.safetensors": ["x/1", "v2"], "b.safetensors": ["ü.3"]})


def test_clips_and_totals(folder: Path) -> None:
    dataset = Dataset.open(folder)
    assert list(dataset.clips()) == [
        Clip("x/1", "s", "a.safetensors", 20 * HOP, "train"),
        Clip("v2", "s", "a.safetensors", 20 * HOP, "valid"),
        Clip("ü.3", "s", "b.safetensors", 20 * HOP, "train"),
    ]
    assert [clip.name for clip in dataset.clips("valid")] == ["v2"]
    assert list(dataset.clips("test")) == []
    assert (dataset.n_clips, dataset.n_samples, dataset.duration_s) == (3, 60 * HOP, 60 * HOP / 16_000)
    assert (dataset.licence, dataset.source_note) == ("CC0", "noise")
    assert (dataset.mel, dataset.signal, dataset.prep) == (MelConfig(), SignalConfig(), PrepConfig())
    with pytest.raises(DatasetError, match="split 'dev' does not exist; choose one of train, valid, test"):
        dataset.clips("dev")


@pytest.mark.parametrize(
    "bounds",
    [(0, None), (0, 1), (17, 3_900), (3_999, 4_000), (0, 9_999), (5, 5), (4_000, 4_100), (-10, None)],
)
def test_slices_are_numpys(folder: Path, bounds: tuple[int, int | None]) -> None:
    dataset = Dataset.open(folder)
    for clip in dataset.clips():
        audio = dataset.audio(clip, *bounds)
        assert audio.dtype == np.int16
        np.testing.assert_array_equal(audio, pcm_of(clip.name)[slice(*bounds)])
        frames = (bounds[0], None if bounds[1] is None else bounds[1] // HOP)
        lags = dataset.lags(clip, *frames)
        assert lags.dtype == np.float32
        np.testing.assert_array_equal(lags, lags_of(clip.name)[slice(*frames)])


def test_what_was_read_can_be_changed(folder: Path) -> None:
    dataset = Dataset.open(folder)
    clip = dataset.clips()[0]
    dataset.audio(clip)[:] = 0
    np.testing.assert_array_equal(dataset.audio(clip), pcm_of(clip.name))


def test_few_shards_are_open_at_once(tmp_path: Path) -> None:
    dataset = Dataset.open(write_dataset(tmp_path, {f"{n}.safetensors": [f"c{n}"] for n in range(5)}))
    reader = ShardReader(dataset.path, HOP, most_open=2)
    for clip in list(dataset.clips()) * 2:
        pcm = reader.read(clip, pcm_key(clip.name), clip.n_samples, slice(3, 9))
        np.testing.assert_array_equal(pcm, pcm_of(clip.name)[3:9])
        assert reader.n_open <= 2


def _first_samples(dataset: Dataset) -> list[int]:
    return [int(dataset.audio(clip, 0, 1)[0]) for clip in dataset.clips()]


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_workers_read_the_same(folder: Path, method: str) -> None:
    dataset = Dataset.open(folder)
    here = _first_samples(dataset)  # the files are open when the worker starts
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert pool.apply(_first_samples, (dataset,)) == here


def test_pickling_drops_open_files(folder: Path) -> None:
    dataset = Dataset.open(folder)
    _first_samples(dataset)
    again = pickle.loads(pickle.dumps(dataset))
    assert list(again.clips()) == list(dataset.clips())
    assert _first_samples(again) == _first_samples(dataset)


def test_require_mel_names_every_difference(folder: Path) -> None:
    dataset = Dataset.open(folder)
    dataset.require_mel(MelConfig())
    with pytest.raises(DatasetError) as caught:
        dataset.require_mel(MelConfig(hop_samples=160, n_mels=64))
    message = str(caught.value)
    assert "hop_samples 200, not 160" in message
    assert "n_mels 80, not 64" in message
    assert "n_fft" not in message
    told = "prepare it again with this config, or train with the dataset's [mel], which --config tiny or "
    assert told in message
    assert "voice-24k" not in message


def test_a_contract_that_no_preset_has_names_none(folder: Path) -> None:
    dataset = Dataset.open(folder)
    dataset.mel = MelConfig(n_mels=81)
    with pytest.raises(DatasetError, match=r"train with the dataset's \[mel\]$"):
        dataset.require_mel(MelConfig())
    dataset.mel = MEL_PRESETS["hifigan-22k"]
    with pytest.raises(DatasetError, match=r"which --config ljspeech-22k has$"):
        dataset.require_mel(MelConfig())


def test_a_file_with_a_presets_name_is_not_advised(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Since `--config` takes the file: of another contract, or no config at all."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").write_text("no config")
    (tmp_path / "voice-16k").write_text("[mel]\nn_mels = 81\n")
    with pytest.raises(DatasetError, match=r"which --config universal-16k has$"):
        Dataset.open(folder).require_mel(MelConfig(n_mels=64))


def test_what_is_no_dataset_is_refused(folder: Path, tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "none", "no such folder"), (tmp_path, r"has no dataset\.json")):
        with pytest.raises(DatasetError, match=reason):
            Dataset.open(path)
    with pytest.raises(DatasetError, match="not a dataset"):
        Dataset.open(folder / "a.safetensors")
    for text, reason in (
        ("{", "damaged"),
        ("[]", "not gru-audio's"),
        ('{"format": "other"}', "not gru-audio's"),
        ('{"format": "gru-audio dataset"}', "version None"),
        ('{"format": "gru-audio dataset", "version": 3}', "version 3, this program reads up to 2; update"),
        ('{"format": "gru-audio dataset", "version": 1}', r"damaged \(licence: field required\)"),
    ):
        (folder / "dataset.json").write_text(text)
        with pytest.raises(DatasetError, match=reason) as caught:
            Dataset.open(folder)
        assert "\n" not in str(caught.value)


def test_unknown_or_bad_settings_are_refused(tmp_path: Path) -> None:
    write_dataset(tmp_path, {"a.safetensors": ["x"]}, mel={"hop_samples": -1})
    with pytest.raises(DatasetError, match=r"damaged \(hop_samples: .* greater than 0\)"):
        Dataset.open(tmp_path)


@pytest.mark.parametrize("damage", ["missing", "cut", "empty", "noise", "no metadata", "newer"])
def test_a_damaged_shard_is_named(folder: Path, damage: str) -> None:
    import safetensors.numpy

    shard = folder / "b.safetensors"
    whole = shard.read_bytes()
    damaged = {
        "cut": whole[:-10],
        "empty": b"",
        "noise": bytes(range(256)),
        "no metadata": safetensors.numpy.save({"x": np.zeros(3)}),
        "newer": whole.replace(b'\\"version\\": 1', b'\\"version\\": 2'),
    }
    if damage == "missing":
        shard.unlink()
    else:
        assert damaged[damage] != whole
        shard.write_bytes(damaged[damage])
    with pytest.raises(
        DatasetError, match=r"b\.safetensors: missing or damaged .*run the same gru-audio prep"
    ):
        Dataset.open(folder)


def test_a_flipped_bit_is_found_by_verification(folder: Path) -> None:
    shard = folder / "a.safetensors"
    header, tensors = read_verified(shard)
    assert header == read_shard_header(shard)
    np.testing.assert_array_equal(tensors[pcm_key("v2")], pcm_of("v2"))
    assert [clip.name for clip in header.clips] == ["x/1", "v2"]
    assert header.skipped == (("bad", "why"),)
    data = bytearray(shard.read_bytes())
    data[-1000] ^= 1
    shard.write_bytes(bytes(data))
    assert read_shard_header(shard) == header
    with pytest.raises(DamagedShardError, match="digest"):
        read_verified(shard)


def test_equal_contents_give_equal_bytes() -> None:
    tensors: dict[str, NDArray[Any]] = {pcm_key(name): pcm_of(name) for name in "abc"}
    tensors |= {lags_key(name): lags_of(name) for name in "abc"}
    backwards = {key: tensors[key] for key in reversed(tensors)}
    first = encode_shard("f", [record("a")], [], tensors)
    assert first == encode_shard("f", [record("a")], [], backwards)


names = st.lists(st.text(min_size=1, max_size=8), min_size=2, max_size=60, unique=True)


@settings(deadline=None)
@given(names, st.floats(0, 0.45), st.floats(0, 0.45))
def test_no_split_is_left_empty_where_there_is_material(clips: list[str], valid: float, test: float) -> None:
    prep = PrepConfig(valid_fraction=valid, test_fraction=test)
    splits = splits_of([record(name) for name in clips], prep)
    counts = Counter(splits.values())
    assert set(splits) == set(clips)
    assert counts["train"] > 0
    assert (counts["valid"] > 0) == (valid > 0)
    assert len(clips) < 3 or (counts["test"] > 0) == (test > 0)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(0, 0.999), st.integers(1, 9), st.integers(OPEN, TEST)), min_size=2, max_size=9
    ),
    st.sampled_from([0.0, 1e-9, 0.05, 0.45]),
    st.sampled_from([0.0, 1e-9, 0.05, 0.45]),
)
def test_what_is_settled_stays(keys: list[tuple[float, int, int]], valid: float, test: float) -> None:
    places, sizes, have = (np.array(column) for column in zip(*keys, strict=True))
    prep = PrepConfig(valid_fraction=valid, test_fraction=test)
    splits = split_keys(places, sizes, prep, have)
    settled = have != OPEN
    np.testing.assert_array_equal(splits[settled], have[settled])
    n_open = np.count_nonzero(~settled)
    if n_open > 2:
        assert TRAIN in splits
        assert not valid or VALID in splits
        assert not test or TEST in splits


@settings(deadline=None, max_examples=20)
@given(names)
def test_a_clips_split_does_not_depend_on_the_others(clips: list[str]) -> None:
    many = [record(f"filler {n}") for n in range(200)]  # with these no clip needs to be moved
    alone = splits_of([record(clips[0]), *many], PrepConfig())
    together = splits_of([*map(record, clips), *many], PrepConfig())
    assert alone[clips[0]] == together[clips[0]]


def test_split_shares_are_the_fractions() -> None:
    prep = PrepConfig(valid_fraction=0.1, test_fraction=0.2)
    counts = Counter(splits_of([record(f"clip {n}") for n in range(5_000)], prep).values())
    assert counts["valid"] / 5_000 == pytest.approx(0.1, abs=0.015)
    assert counts["test"] / 5_000 == pytest.approx(0.2, abs=0.02)


def test_split_of_known_names_never_changes() -> None:
    """Golden: a dataset prepared again by a later version must not mix valid into train."""
    splits = splits_of([record(f"LJ001-{n:04d}") for n in range(1, 60)], PrepConfig())
    numbers = {
        wanted: [int(name[-4:]) for name, split in splits.items() if split == wanted]
        for wanted in ("valid", "test")
    }
    assert numbers == {"valid": [10, 11, 16, 50, 57, 59], "test": [44, 55]}


@pytest.mark.parametrize("n_speakers", [2, 3, 40])
def test_split_by_speaker_keeps_speakers_whole(n_speakers: int) -> None:
    clips = [record(f"{n}", f"speaker {n % n_speakers}") for n in range(4 * n_speakers)]
    splits = splits_of(clips, PrepConfig(split_by="speaker"))
    for speaker in {clip.speaker for clip in clips}:
        assert len({splits[clip.name] for clip in clips if clip.speaker == speaker}) == 1
    assert set(splits.values()) == ({"train", "valid"} if n_speakers == 2 else {"train", "valid", "test"})


def test_one_speaker_is_divided_by_clips_and_one_clip_not_at_all() -> None:
    clips = [record(f"{n}", "alone") for n in range(10)]
    assert set(splits_of(clips, PrepConfig(split_by="speaker")).values()) == {"train", "valid", "test"}
    assert len(splits_of(clips[:1], PrepConfig())) == 1
    assert splits_of([], PrepConfig()) == {}


def test_one_speaker_is_divided_as_clips_are() -> None:
    """Whatever the hash of the speaker's own name: it once put all clips but one into valid or test."""
    for speaker in map(str, range(20)):
        clips = [record(f"clip {n}", speaker) for n in range(60)]
        by_speaker = splits_of(clips, PrepConfig(split_by="speaker"))
        assert by_speaker == splits_of(clips, PrepConfig(split_by="clip"))


def test_the_speaker_of_fewest_clips_goes_to_valid() -> None:
    for trial in range(50):
        clips = [record(f"{n}", f"small {trial}" if n < 2 else f"large {trial}") for n in range(40)]
        splits = splits_of(clips, PrepConfig(split_by="speaker", valid_fraction=1e-9, test_fraction=0.0))
        assert Counter(splits.values()) == {"train": 38, "valid": 2}
        assert splits["0"] == splits["1"] == "valid"


@pytest.mark.parametrize("split_by", ["clip", "speaker"])
@pytest.mark.parametrize("n_sounds", [1, 2, 3, 40])
def test_equal_audio_is_in_one_split(split_by: str, n_sounds: int) -> None:
    """Or what is validated on would have been trained on."""
    sounds = {f"{n}": f"sound {n * n % n_sounds}" for n in range(120)}
    clips = [
        dataclasses.replace(record(name, f"speaker {int(name) // 10}"), digest=digest_of(sound.encode()))
        for name, sound in sounds.items()
    ]
    splits = splits_of(clips, PrepConfig.model_validate({"split_by": split_by}))
    for sound in set(sounds.values()):
        assert len({splits[name] for name in sounds if sounds[name] == sound}) == 1
    if split_by == "clip":
        assert len(set(splits.values())) == min(len(set(sounds.values())), 3)
    assert "train" in splits.values()


@settings(deadline=None)
@given(st.lists(st.text(max_size=2), min_size=2, max_size=30), st.floats(0.001, 0.45), st.floats(0, 0.45))
def test_any_speakers_leave_something_to_train_and_to_validate(
    speakers: list[str], valid: float, test: float
) -> None:
    clips = [record(f"{n}", speaker) for n, speaker in enumerate(speakers)]
    prep = PrepConfig(split_by="speaker", valid_fraction=valid, test_fraction=test)
    assert {"train", "valid"} <= set(splits_of(clips, prep).values())


def rewrite_header(shard: Path, **changes: object) -> None:
    """The same tensors under another header."""
    import safetensors.numpy

    with safetensors.safe_open(shard, framework="numpy") as file:
        header = json.loads(file.metadata()["gru_audio"])
    header.update(changes)
    tensors = safetensors.numpy.load_file(shard)
    shard.write_bytes(safetensors.numpy.save(tensors, metadata={"gru_audio": json.dumps(header)}))


def rewrite_tensors(shard: Path, **changes: NDArray[Any]) -> None:
    """The same header over other tensors."""
    import safetensors.numpy

    with safetensors.safe_open(shard, framework="numpy") as file:
        metadata = file.metadata()
    tensors = {**safetensors.numpy.load_file(shard), **changes}
    shard.write_bytes(safetensors.numpy.save(tensors, metadata=metadata))


def read_all(folder: Path) -> None:
    dataset = Dataset.open(folder)
    for clip in dataset.clips():
        dataset.lags(clip, 0, 1)
        dataset.audio(clip, 0, 1)


def test_every_flipped_bit_is_found_when_its_clip_is_read(folder: Path) -> None:
    shard = folder / "a.safetensors"
    whole, rng = shard.read_bytes(), np.random.default_rng(0)
    first = 8 + int.from_bytes(whole[:8], "little")
    for place in rng.integers(first, len(whole), 100):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        shard.write_bytes(damaged)
        dataset = Dataset.open(folder)
        with pytest.raises(DatasetError, match=r"a\.safetensors: .*digest|lags"):
            read_all(folder)
        with pytest.raises(DatasetError, match=r"a\.safetensors: missing or damaged .*digest"):
            dataset.verify()


def test_a_whole_dataset_is_verified(folder: Path) -> None:
    steps: list[tuple[float, float | None]] = []
    Dataset.open(folder).verify(lambda progress: steps.append((progress.done, progress.total)))
    assert steps == [(0, 2), (1, 2), (2, 2)]


def test_shards_of_an_older_version_have_no_digests_of_clips(folder: Path) -> None:
    shard = folder / "a.safetensors"
    rewrite_header(shard, clip_digests=[])
    dataset = Dataset.open(folder)
    for clip in dataset.clips():
        np.testing.assert_array_equal(dataset.audio(clip), pcm_of(clip.name))
        np.testing.assert_array_equal(dataset.lags(clip), lags_of(clip.name))
    dataset.verify()
    rewrite_tensors(shard, **{pcm_key("v2"): pcm_of("other")})
    dataset = Dataset.open(folder)
    with pytest.raises(DatasetError, match="its clip v2 does not match its digest"):
        dataset.audio(dataset.clips("valid")[0], 0, 1)


@pytest.mark.parametrize("lag", [1e9, -1.0, np.nan, np.inf, 641.0])
def test_lags_that_no_pitch_has(folder: Path, lag: float) -> None:
    lags = lags_of("v2")
    lags[7] = lag
    rewrite_tensors(folder / "a.safetensors", **{lags_key("v2"): lags})
    rewrite_header(folder / "a.safetensors", clip_digests=[])
    dataset = Dataset.open(folder)
    clip = dataset.clips("valid")[0]
    np.testing.assert_array_equal(dataset.lags(clip, 0, 7), lags[:7])
    with pytest.raises(DatasetError, match="its clip v2 has lags past 320 samples"):
        dataset.lags(clip)


@pytest.mark.parametrize(
    ("key", "tensor"),
    [
        (pcm_key("v2"), pcm_of("v2").astype(np.int32)),
        (pcm_key("v2"), pcm_of("v2").astype(np.float32)),
        (pcm_key("v2"), pcm_of("v2")[:-1]),
        (pcm_key("v2"), pcm_of("v2")[:0]),
        (pcm_key("v2"), pcm_of("v2")[None]),
        (lags_key("v2"), lags_of("v2").astype(np.float64)),
        (lags_key("v2"), lags_of("v2")[:-1]),
        (lags_key("v2"), lags_of("v2").repeat(2)),
        (lags_key("v2"), lags_of("v2")[None]),
    ],
)
def test_tensors_that_are_not_what_the_header_tells(folder: Path, key: str, tensor: NDArray[Any]) -> None:
    rewrite_tensors(folder / "a.safetensors", **{key: tensor})
    with pytest.raises(DatasetError, match=r"a\.safetensors: .*its clip v2 has another length or type"):
        read_all(folder)


CLIP = {
    "name": "v2",
    "speaker": "s",
    "source": "",
    "n_samples": 20 * HOP,
    "digest": "0" * 32,
    "full_scale_samples": 0,
}


@pytest.mark.parametrize(
    "changes",
    [
        {"clips": 3},
        {"clips": [3]},
        {"clips": [{}]},
        {"clips": [{**CLIP, "n_samples": 0}]},
        {"clips": [{**CLIP, "n_samples": -200}]},
        {"clips": [{**CLIP, "n_samples": 1 << 50}]},
        {"clips": [{**CLIP, "n_samples": 4000.0}]},
        {"clips": [{**CLIP, "n_samples": "4000"}]},
        {"clips": [{**CLIP, "name": 7}]},
        {"clips": [{**CLIP, "name": "elsewhere"}]},
        {"clips": [{**CLIP, "speaker": None}]},
        {"clip_digests": ["a"]},
        {"skipped": [["a"]]},
        {"version": "1"},
        {"version": 7},
    ],
)
def test_a_header_of_other_types(folder: Path, changes: dict[str, object]) -> None:
    rewrite_header(folder / "a.safetensors", **changes)
    with pytest.raises(DatasetError, match=r"a\.safetensors: missing or damaged") as caught:
        read_all(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name",
    ["../outside.safetensors", "/etc/passwd", "sub/a.safetensors", "", ".", "..", ".hidden.safetensors"],
)
def test_dataset_json_names_files_of_its_folder_alone(tmp_path: Path, name: str) -> None:
    folder = write_dataset(tmp_path / "data", {"a.safetensors": ["v2"]}, shards=["a.safetensors", name])
    (tmp_path / "outside.safetensors").write_bytes((folder / "a.safetensors").read_bytes())
    with pytest.raises(DatasetError, match=r"names .*, which is no file of its folder"):
        Dataset.open(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"splits": 3},
        {"splits": {"valid": "v2", "test": []}},
        {"splits": {"valid": [1], "test": []}},
        {"splits": {"valid": []}},
        {"shards": {}},
        {"shards": [1]},
        {"shards": "a.safetensors"},
        {"licence": None},
        {"mel": []},
        {"mel": {"hop_samples": "200"}},
        {"mel": {"hop_samples": 1 << 40}},
        {"signal": {"pitch_min_hz": None}},
        {"prep": {"trim_db": []}},
    ],
)
def test_dataset_json_of_other_types(tmp_path: Path, changes: dict[str, object]) -> None:
    folder = write_dataset(tmp_path / "data", {"a.safetensors": ["v2"]}, **changes)
    with pytest.raises(DatasetError, match=r"dataset\.json: damaged") as caught:
        Dataset.open(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "data",
    [b"[" * 100_000, b'{"a": 1e999}', b'{"a": ' + b"9" * 5_000 + b"}", b'{"a": "\xff"}', b"\x00" * 100, b""],
)
def test_dataset_json_past_all_bounds(folder: Path, data: bytes) -> None:
    (folder / "dataset.json").write_bytes(data)
    with pytest.raises(DatasetError, match=r"dataset\.json: damaged") as caught:
        Dataset.open(folder)
    assert len(str(caught.value)) < 500


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["dataset.json", "a.safetensors", ""])
def test_a_pipe_does_not_hang(folder: Path, tmp_path: Path, name: str) -> None:
    if name:
        (folder / name).unlink()
    path = folder / name if name else tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(DatasetError):
        Dataset.open(folder if name else path)
    assert not is_shard(path)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff" * 8,
        (10).to_bytes(8, "little") + b"[[[[[[[[[[",
        (100_000).to_bytes(8, "little") + b"[" * 100_000,
        (14).to_bytes(8, "little") + b'{"__metadata__',
        (19).to_bytes(8, "little") + b'{"__metadata__": 3}',
        (38).to_bytes(8, "little") + b'{"__metadata__": {"gru_audio": "null"}}',
    ],
)
def test_what_is_no_shard(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "shard-00000.safetensors").write_bytes(data)
    assert not is_shard(tmp_path / "shard-00000.safetensors")
