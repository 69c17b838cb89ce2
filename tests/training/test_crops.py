"""Training batches against the clips that they were cut from: alignment, edges, reproducibility.

The datasets' pitch lags are made up: frame f of clip c has lag 100 c + (f + 1) / 10, so that a batch tells where
each of its crops was cut.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support import naive

from gru_audio.config import Config, MelConfig, SignalConfig, TrainConfig
from gru_audio.data.dataset import Dataset
from gru_audio.data.stored.shards import ClipRecord, encode_shard, lags_key, pcm_key
from gru_audio.errors import DatasetError
from gru_audio.signal.lpc import frame_filters
from gru_audio.signal.mel import log_mel, silent_frames
from gru_audio.signal.mulaw import expansion_table, thresholds
from gru_audio.training.batches.batch import Batch
from gru_audio.training.batches.crops import ArrayBatch, CropSource
from gru_audio.voice.tensor_file import digest_of

Floats = NDArray[np.float32]
Pcm = NDArray[np.int16]

CONTEXT = 2
N_FRAMES = 4  # of a crop


def config_for(padding: Any = "same", **train: Any) -> Config:
    settings: dict[str, Any] = {"batch_size": 24, "crop_samples": N_FRAMES * 200, "code_noise": 0, **train}
    return Config(mel=MelConfig(padding=padding), train=TrainConfig(**settings))


def made_up_lags(clip: int, n_frames: int) -> NDArray[np.float32]:
    return (100 * clip + (1 + np.arange(n_frames)) / 10).astype(np.float32)


def make_dataset(folder: Path, clips: list[Pcm], mel: MelConfig, valid: tuple[int, ...] = ()) -> Dataset:
    """Clips of whole hops; clip c is named `c`."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, NDArray[Any]] = {}
    records = []
    for index, pcm in enumerate(clips):
        n_frames = len(pcm) // mel.hop_samples
        tensors[pcm_key(str(index))] = pcm
        tensors[lags_key(str(index))] = made_up_lags(index, n_frames)
        records.append(ClipRecord(str(index), "s", f"{index}.wav", len(pcm), digest_of(pcm), 0))
    (folder / "a.safetensors").write_bytes(encode_shard("made up", records, [], tensors)[1])
    contents = {
        "format": "gru-audio dataset",
        "version": 1,
        "licence": "",
        "source_note": "",
        "mel": mel.model_dump(),
        "signal": SignalConfig().model_dump(),
        "prep": Config().prep.model_dump(),
        "splits": {"valid": [str(index) for index in valid], "test": []},
        "shards": ["a.safetensors"],
    }
    (folder / "dataset.json").write_text(json.dumps(contents))
    return Dataset.open(folder)


@pytest.fixture(scope="module")
def clips(speech: Floats) -> list[Pcm]:
    """Ten frames of speech and of something else, and clips of a crop and of less than one."""
    pcm = (speech * 32_768).astype(np.int16)
    noise = np.random.default_rng(0).integers(-3_000, 3_000, 2_000).astype(np.int16)
    return [pcm[20_000:22_000], noise, pcm[30_000:30_800], pcm[40_000:40_200]]


def crops_of(batch: ArrayBatch) -> Iterator[tuple[int, int, ArrayBatch]]:
    """The clip, the first frame and the arrays of each crop."""
    for index in range(len(batch.target)):
        crop = Batch(*(part[index] for part in batch))
        clip, frame = divmod(round(10 * float(crop.lags[0])) - 1, 1000)
        yield clip, frame, crop


def draw_crops(
    folder: Path, clips: list[Pcm], config: Config, n_steps: int = 3
) -> Iterator[tuple[int, int, ArrayBatch]]:
    source = CropSource(make_dataset(folder, clips, config.mel), config, "train", CONTEXT)
    for step in range(n_steps):
        yield from crops_of(source.batch(step))


def stretch(values: NDArray[Any], start: int, stop: int, outside: Any) -> NDArray[Any]:
    """values[start:stop], with `outside` where there are none; slow and obvious."""
    return np.array([values[i] if 0 <= i < len(values) else outside for i in range(start, stop)])


# Reproducibility


def test_a_batch_follows_from_seed_and_step(tmp_path: Path, clips: list[Pcm]) -> None:
    config = config_for(code_noise=3)
    dataset = make_dataset(tmp_path / "a", clips, config.mel)
    source = CropSource(dataset, config, "train", CONTEXT)
    batches = {step: source.batch(step) for step in (0, 1, 7)}

    afresh = CropSource(make_dataset(tmp_path / "b", clips, config.mel), config, "train", CONTEXT)
    for step in (7, 0, 7, 1):
        for ours, again in zip(batches[step], afresh.batch(step), strict=True):
            np.testing.assert_array_equal(ours, again)
    assert not np.array_equal(batches[0].lags, batches[1].lags)
    other = config.model_copy(update={"train": config.train.model_copy(update={"seed": 1})})
    assert not np.array_equal(CropSource(dataset, other, "train", CONTEXT).batch(0).lags, batches[0].lags)


def test_shapes_and_types(tmp_path: Path, clips: list[Pcm]) -> None:
    config = config_for(batch_size=3)
    batch = CropSource(make_dataset(tmp_path, clips, config.mel), config, "train", CONTEXT).batch(0)

    shapes = {name: (part.shape, part.dtype.name) for name, part in vars(batch).items()}
    assert shapes == {
        "mel": ((3, N_FRAMES + 2 * CONTEXT, 80), "float32"),
        "lags": ((3, N_FRAMES), "float32"),
        "target": ((3, 800), "int16"),
        "history": ((3, 800 + config.run_in_samples), "int16"),
        "previous_signal": ((3, 800), "int16"),
        "prediction": ((3, 800), "int16"),
    }


def test_every_start_is_equally_likely(tmp_path: Path, clips: list[Pcm]) -> None:
    config = config_for(batch_size=200)
    starts = [(clip, frame) for clip, frame, _ in draw_crops(tmp_path, clips, config, n_steps=8)]

    counts = {start: starts.count(start) for start in set(starts)}
    expected = {(0, f) for f in range(7)} | {(1, f) for f in range(7)} | {(2, 0), (3, 0)}
    assert set(counts) == expected
    # 1600 draws of 16 starts: 100 each, with a deviation of 9.7.
    assert min(counts.values()) > 55
    assert max(counts.values()) < 150


# Alignment


@pytest.mark.parametrize("padding", ["same", "center"])
def test_mel_is_the_whole_clips(tmp_path: Path, clips: list[Pcm], padding: Any) -> None:
    config = config_for(padding)
    silence = silent_frames(1, config.mel)[0]
    seen = set()
    for clip, frame, crop in draw_crops(tmp_path, clips, config):
        whole = log_mel(clips[clip].astype(np.float32) / 32_768, config.mel)
        expected = stretch(whole, frame - CONTEXT, frame + N_FRAMES + CONTEXT, silence)
        np.testing.assert_allclose(crop.mel, expected, rtol=0, atol=1e-4)
        seen.add((clip, frame))
    assert {(0, 0), (0, 6), (2, 0), (3, 0)} <= seen  # both edges, and clips of a crop or less


@pytest.mark.parametrize("preemphasis", [0.0, 0.97])
def test_mel_inside_a_long_clip_does_not_see_the_cut(
    tmp_path: Path, speech: Floats, preemphasis: float
) -> None:
    pcm = (speech * 32_768).astype(np.int16)[: len(speech) // 200 * 200]
    config = config_for(batch_size=40)
    config = config.model_copy(update={"mel": MelConfig(preemphasis=preemphasis)})
    whole = log_mel(pcm.astype(np.float32) / 32_768, config.mel)
    for _, frame, crop in draw_crops(tmp_path, [pcm], config, n_steps=1):
        expected = stretch(
            whole, frame - CONTEXT, frame + N_FRAMES + CONTEXT, silent_frames(1, config.mel)[0]
        )
        np.testing.assert_allclose(crop.mel, expected, rtol=0, atol=1e-3)


def test_lags_are_those_of_the_frames_and_0_beyond(tmp_path: Path, clips: list[Pcm]) -> None:
    for clip, frame, crop in draw_crops(tmp_path, clips, config_for()):
        labels = made_up_lags(clip, len(clips[clip]) // 200)
        np.testing.assert_array_equal(crop.lags, stretch(labels, frame, frame + N_FRAMES, 0))


@pytest.mark.parametrize("padding", ["same", "center"])
@pytest.mark.parametrize("code_noise", [0, 3])
@pytest.mark.parametrize("order", [0, 16])
def test_codes_are_the_closed_loop_over_the_same_audio(
    tmp_path: Path, clips: list[Pcm], padding: Any, code_noise: int, order: int
) -> None:
    """From the whole clip's mel and audio, with the naive loop: where a crop begins is all that it is told."""
    config = config_for(padding, code_noise=code_noise, batch_size=4)
    config = config.model_copy(update={"signal": SignalConfig(lpc_order=order)})
    hop, run_in = 200, config.run_in_samples // 200
    lead = 100 if padding == "center" else 0
    n_equal = n_all = 0
    for clip, frame, crop in draw_crops(tmp_path, clips, config, n_steps=1):
        audio = clips[clip].astype(np.float32) / 32_768
        silence = silent_frames(1, config.mel)[0]
        mel = stretch(log_mel(audio, config.mel), frame - run_in, frame + N_FRAMES, silence)
        low, high = (frame - run_in) * hop - lead, (frame + N_FRAMES) * hop - lead
        now, before = (stretch(audio, low - n, high - n, 0).astype(np.float32) for n in (0, 1))
        signal = now - np.float32(0.85) * before  # a bit less or more may turn a code, and all after it
        filters = frame_filters(mel.astype(np.float32), config.mel, config.signal)
        codes, _ = naive.closed_loop(
            signal,
            filters.coefficients,
            filters.excitation_scale,
            filters.signal_scale,
            np.zeros(len(signal), np.int8),
            thresholds(256),
            expansion_table(256),
            crop.history.astype(np.int64) if code_noise else None,
        )
        size = len(crop.target)
        target, history, previous, prediction = codes[0, -size:], codes[1], codes[2, -size:], codes[3, -size:]
        ours = [crop.target, crop.history, crop.previous_signal, crop.prediction]
        equal = np.concatenate(ours) == np.concatenate([target, history, previous, prediction])
        n_equal, n_all = n_equal + int(equal.sum()), n_all + equal.size
        moved = np.abs(crop.history[-size:] - crop.target)
        assert moved.max() == code_noise
    assert n_equal == n_all


@pytest.mark.parametrize("padding", ["same", "center"])
def test_a_click_is_at_its_place(tmp_path: Path, padding: Any) -> None:
    position = 1_130
    pcm = np.zeros(2_400, np.int16)
    pcm[position] = 20_000
    config = config_for(padding)
    lead = config.mel.lead_samples
    found = 0
    for _, frame, crop in draw_crops(tmp_path, [pcm], config):
        place = position + lead - frame * 200
        if 0 <= place < len(crop.target):
            found += 1
            assert np.abs(crop.target - 127.5).argmax() == place
            assert crop.mel.sum(1).argmax() == CONTEXT + place // 200
            assert crop.history[config.run_in_samples + place] == crop.target[place]
    assert found


def test_noise_is_uniform_and_does_not_touch_the_target(tmp_path: Path, speech: Floats) -> None:
    pcm = (speech * 32_768).astype(np.int16)[: len(speech) // 200 * 200]
    config = config_for(code_noise=3, batch_size=16)
    steps: list[int] = []
    for _, _, crop in draw_crops(tmp_path, [pcm], config, n_steps=2):
        inner = (crop.target > 3) & (crop.target < 252)
        steps += (crop.history[config.run_in_samples :] - crop.target)[inner].tolist()
    shares = np.bincount(np.array(steps) + 3, minlength=7) / len(steps)
    np.testing.assert_allclose(shares, 1 / 7, atol=0.015)


def test_the_largest_noise_that_a_config_allows(tmp_path: Path, clips: list[Pcm]) -> None:
    for _, _, crop in draw_crops(tmp_path, clips, config_for(code_noise=127), n_steps=1):
        assert crop.history.min() >= 0
        assert crop.history.max() <= 255


# Statistics, splits, refusals


def test_mel_statistics_are_the_clips(tmp_path: Path, speech: Floats) -> None:
    pcm = (speech * 32_768).astype(np.int16)[: len(speech) // 200 * 200]
    config = config_for()
    mean, std = CropSource(make_dataset(tmp_path, [pcm], config.mel), config, "train", 0).mel_statistics()
    whole = log_mel(pcm.astype(np.float32) / 32_768, config.mel)

    assert mean.shape == std.shape == (80,)
    np.testing.assert_allclose(mean, whole.mean(0), atol=0.4)
    np.testing.assert_allclose(std, whole.std(0), atol=0.4)


def test_a_band_that_never_changes_has_a_usable_deviation(tmp_path: Path) -> None:
    config = config_for()
    silence = np.zeros(4_000, np.int16)
    mean, std = CropSource(make_dataset(tmp_path, [silence], config.mel), config, "train", 0).mel_statistics()

    np.testing.assert_allclose(mean, np.log(1e-5), rtol=1e-5)
    assert (std > 0.05).all()


def test_crops_come_from_their_split_alone(tmp_path: Path, clips: list[Pcm]) -> None:
    config = config_for()
    dataset = make_dataset(tmp_path, clips, config.mel, valid=(1,))
    for split, allowed in (("train", {0, 2, 3}), ("valid", {1})):
        source = CropSource(dataset, config, split, CONTEXT)
        assert {clip for clip, _, _ in crops_of(source.batch(0))} == allowed
    with pytest.raises(DatasetError, match="its split 'test' is empty; prepare more clips"):
        CropSource(dataset, config, "test", CONTEXT)


def test_a_dataset_of_another_contract_is_refused(tmp_path: Path, clips: list[Pcm]) -> None:
    dataset = make_dataset(tmp_path, clips, MelConfig())
    with pytest.raises(DatasetError, match=r"made with another mel contract \(padding same, not center"):
        CropSource(dataset, config_for("center"), "train", CONTEXT)
