"""One stream: saved after any frame it goes on bit for bit; what is not a saved stream is refused."""

import copy
import io
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from numpy.typing import NDArray
from support.small import N_MELS, small_config

from gru_audio.errors import ConfigError, GruAudioError, MelError
from gru_audio.network.model import Network
from gru_audio.synthesis.engines import ENGINES
from gru_audio.synthesis.sampling import Sampling
from gru_audio.synthesis.stream import Stream
from gru_audio.synthesis.vocoder import Vocoder
from gru_audio.voice.voice import Voice

Floats = NDArray[np.float32]
Saved = dict[str, NDArray[Any]]

HOP, N_FRAMES = 40, 10
COMPILED = [name for name in ENGINES if name != "torch"]


def voice_of(seed: int = 0, lpc_order: int = 8, **model: object) -> Voice:
    config = small_config(lpc_order, hop_samples=HOP, **{"samples_per_step": 2, **model})  # type: ignore[arg-type]
    torch.manual_seed(seed)
    return Voice(config, {name: tensor.numpy() for name, tensor in Network(config).state_dict().items()})


@pytest.fixture(scope="module")
def mel() -> Floats:
    return np.random.default_rng(0).normal(-4, 2, (N_FRAMES, N_MELS)).astype(np.float32)


@pytest.fixture(scope="module", params=[*((engine, 0) for engine in ENGINES), ("float32", 1)])
def vocoder(request: pytest.FixtureRequest) -> Vocoder:
    engine, n_corrections = request.param
    return Vocoder(voice_of(), engine, "cpu", n_corrections)


@pytest.fixture(scope="module")
def saved(mel: Floats) -> Saved:
    stream = Vocoder(voice_of(), "float32", corrections=0).start()
    stream.push(mel[:6])
    return stream.save()


def rest_of(stream: Stream, frames: Floats) -> Floats:
    return np.concatenate([stream.push(frames), stream.finish()])


def through_npz(arrays: Saved) -> Any:
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]
    file.seek(0)
    return np.load(file)


def through_safetensors(arrays: Saved) -> Saved:
    return safetensors.numpy.load(safetensors.numpy.save(arrays))


# Copies


def test_vocoders_that_are_sent_to_another_process_speak_the_same(mel: Floats, tmp_path: Path) -> None:
    """What their engines hold are addresses of this process: there they led nowhere, and the process crashed."""
    vocoders = [Vocoder(voice_of(), engine, "cpu", 1) for engine in ENGINES]
    expected = [vocoder.synthesize(mel, seed=3, check=False) for vocoder in vocoders]
    (tmp_path / "sent").write_bytes(pickle.dumps((vocoders, mel)))
    there = (
        "import pickle, sys\nfrom pathlib import Path\nvocoders, mel = pickle.loads(Path('sent').read_bytes())\n"
        "for vocoder in vocoders:\n"
        "    sys.stdout.buffer.write(vocoder.synthesize(mel, seed=3, check=False).tobytes())"
    )
    done = subprocess.run([sys.executable, "-c", there], cwd=tmp_path, capture_output=True, check=True)
    assert done.stdout == b"".join(audio.tobytes() for audio in expected)
    for vocoder, audio in zip(vocoders, expected, strict=True):
        copied = copy.deepcopy(vocoder)
        assert (copied.engine_name, copied.engine_reason) == (vocoder.engine_name, vocoder.engine_reason)
        assert (copied.synthesize(mel, seed=3, check=False) == audio).all()


def test_a_stream_is_saved_and_not_copied(vocoder: Vocoder) -> None:
    stream = vocoder.start()
    for way in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(
            GruAudioError, match=r"a stream can neither be copied nor pickled; take what its save"
        ):
            way(stream)


def test_two_threads_at_one_stream_are_told(mel: Floats, monkeypatch: pytest.MonkeyPatch) -> None:
    """It made audio of both at once, and then said that the voice was damaged."""
    vocoder = Vocoder(voice_of(), "float32", corrections=0)
    stream, told = vocoder.start(seed=3), list[str]()
    generate = vocoder.engine.generate

    def meanwhile(*given: Any) -> Floats:
        monkeypatch.undo()

        def push() -> None:
            for work in (lambda: stream.push(mel[:1]), stream.finish, stream.save):
                with pytest.raises(GruAudioError) as caught:
                    work()
                told.append(str(caught.value))

        other = threading.Thread(target=push)
        other.start()
        other.join()
        return generate(*given)

    monkeypatch.setattr(vocoder.engine, "generate", meanwhile)
    first = stream.push(mel)
    assert told == ["the stream is at work in another thread; give each thread a stream of its own"] * 3
    expected = vocoder.synthesize(mel, seed=3, check=False)
    assert (np.concatenate([first, stream.finish()]) == expected).all()


# Frames in, audio out


def test_pushed_frames_are_the_synthesized_mel(vocoder: Vocoder, mel: Floats) -> None:
    stream = vocoder.start(Sampling(seed=3, temperature=0.8, tail_cut=0.01))
    parts = [stream.push(mel[:1]), stream.push(mel[1:1]), stream.push(mel[1:9]), stream.push(mel[9:])]
    parts.append(stream.finish())
    given = [max(0, n_pushed - vocoder.lookahead_frames) for n_pushed in (1, 1, 9, 10)]
    assert [part.size // HOP for part in parts[:-1]] == np.diff([0, *given]).tolist()
    assert parts[-1].size == (N_FRAMES - given[-1]) * HOP
    assert stream.n_frames == N_FRAMES
    expected = vocoder.synthesize(mel, Sampling(seed=3, temperature=0.8, tail_cut=0.01))
    np.testing.assert_array_equal(np.concatenate(parts), expected)


def test_frames_that_do_not_fit_leave_the_stream_as_it_was(vocoder: Vocoder, mel: Floats) -> None:
    stream = vocoder.start()
    first = stream.push(mel[:5])
    for bad in (mel[:, :-1], np.full((2, N_MELS), np.nan)):
        with pytest.raises(MelError):
            stream.push(bad)
    found = np.concatenate([first, rest_of(stream, mel[5:])])
    np.testing.assert_array_equal(found, vocoder.synthesize(mel))


def test_an_ended_stream_is_refused(vocoder: Vocoder, mel: Floats) -> None:
    stream = vocoder.start()
    stream.push(mel[:3])
    stream.finish()
    for call in (lambda: stream.push(mel), stream.finish, stream.save):
        with pytest.raises(MelError, match="has ended; start another"):
            call()


def test_a_stream_without_frames_is_silent(vocoder: Vocoder) -> None:
    assert vocoder.start().finish().shape == (0,)


# Saved and restored


@pytest.mark.parametrize("at", [0, 1, 2, 3, 4, 5, 7, N_FRAMES])
def test_a_restored_stream_goes_on_bit_for_bit(vocoder: Vocoder, mel: Floats, at: int) -> None:
    whole = vocoder.synthesize(mel, Sampling(seed=7, temperature=0.9, tail_cut=0.02))
    stream = vocoder.start(Sampling(seed=7, temperature=0.9, tail_cut=0.02))
    before = stream.push(mel[:at])
    through = (dict, through_npz, through_safetensors)[at % 3]
    restored = vocoder.restore(through(stream.save()))
    assert restored.n_frames == at
    found = np.concatenate([before, rest_of(restored, mel[at:])])
    np.testing.assert_array_equal(found, whole)


@pytest.mark.parametrize("lpc_order", [0, 8])
@pytest.mark.parametrize("engine", COMPILED)
def test_saved_and_restored_after_every_frame(engine: str, lpc_order: int, mel: Floats) -> None:
    voice = voice_of(lpc_order=lpc_order)
    vocoder = Vocoder(voice, engine)
    stream, parts = vocoder.start(seed=1), []
    for frame in mel:
        parts.append(stream.push(frame[None]))
        stream = Vocoder(voice, engine).restore(stream.save())
    parts.append(stream.finish())
    np.testing.assert_array_equal(np.concatenate(parts), vocoder.synthesize(mel, seed=1))


def test_half_a_word_of_the_generator_is_kept(mel: Floats) -> None:
    """An odd number of draws leaves one; the next draw is what it holds."""
    vocoder = Vocoder(voice_of(), "float32")
    saved, heard = vocoder.start(seed=5).save(), []
    for half in (1, 1 << 31):
        saved["random"][4:] = 1, half
        restored = vocoder.restore(saved)
        np.testing.assert_array_equal(restored.save()["random"], saved["random"])
        heard.append(restored.push(mel))
    assert not np.array_equal(heard[0], heard[1])


def test_saving_changes_nothing_and_shares_nothing(vocoder: Vocoder, mel: Floats) -> None:
    stream = vocoder.start()
    first = stream.push(mel[:6])
    saved = stream.save()
    kept = {name: array.copy() for name, array in saved.items()}
    one, other = vocoder.restore(saved), vocoder.restore(saved)
    expected = vocoder.synthesize(mel)
    for each in (stream, one, other):
        np.testing.assert_array_equal(np.concatenate([first, rest_of(each, mel[6:])]), expected)
    for name, array in saved.items():
        np.testing.assert_array_equal(array, kept[name], err_msg=name)


def test_another_engine_may_take_it_up(mel: Floats, saved: Saved) -> None:
    """With its own rounding: the first samples agree."""
    expected = Vocoder(voice_of(), "float32", corrections=0).restore(saved).push(mel[6:8])
    found = Vocoder(voice_of(), "torch", "cpu", corrections=0).restore(saved).push(mel[6:8])
    np.testing.assert_allclose(found[:10], expected[:10], atol=1e-5 * np.abs(expected).max())


# What is not a saved stream


@pytest.mark.parametrize("n_corrections", [1, 2])
def test_another_number_of_corrections(saved: Saved, n_corrections: int) -> None:
    with pytest.raises(ConfigError, match=rf"0 corrections, not {n_corrections}; load the voice with 0"):
        Vocoder(voice_of(), "float32", corrections=n_corrections).restore(saved)


@pytest.mark.parametrize("seed_or_size", [{"seed": 1}, {"gru_size": 32}])
def test_another_voice_is_refused(saved: Saved, seed_or_size: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"saved stream: of another voice; load the voice"):
        Vocoder(voice_of(**seed_or_size), "float32", corrections=0).restore(saved)


NAMES = [
    "voice",
    "n_frames",
    "recent_mel",
    "sampling",
    "random",
    "engine.hidden",
    "engine.codes",
    "engine.audio",
]


@pytest.mark.parametrize("engine", list(ENGINES))
@pytest.mark.parametrize("name", NAMES)
def test_a_missing_or_misshapen_array_is_named(saved: Saved, name: str, engine: str) -> None:
    vocoder, short = Vocoder(voice_of(), engine, "cpu", corrections=0), name.removeprefix("engine.")
    with pytest.raises(ConfigError, match=f"saved stream: .*{short}"):
        vocoder.restore({key: array for key, array in saved.items() if key != name})
    with pytest.raises(ConfigError, match=f"saved stream: .*{short}"):
        vocoder.restore({**saved, name: saved[name][:-1]})


def test_a_correction_of_other_arrays_is_refused(mel: Floats) -> None:
    """As an older version saved them, with fewer or of other sizes."""
    vocoder = Vocoder(voice_of(), "float32", corrections=1)
    stream = vocoder.start()
    stream.push(mel[:6])
    saved = stream.save()
    names = [name for name in saved if name.startswith("correction.")]
    assert {"correction.logs", "correction.targets", "correction.valid"} < set(names)
    for name in names:
        with pytest.raises(ConfigError, match=f"^saved stream: has no '{name}'; restore what .*$"):
            vocoder.restore({key: array for key, array in saved.items() if key != name})
        with pytest.raises(ConfigError, match=f"^saved stream: '{name}' is .*; restore what .*$"):
            vocoder.restore({**saved, name: saved[name][:-1]})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"surprise": np.zeros(1)}, "unknown 'surprise'"),
        ({"random": np.zeros(6)}, "'random' is float64 (6,), not uint64 (6,)"),
        ({"random": np.full(6, 9, np.uint64)}, "'random' is no state"),
        ({"n_frames": np.array([2])}, "'recent_mel' is float32 (4, 20), not float32 (2, 20)"),
        ({"n_frames": np.array([-1])}, "'recent_mel' is float32 (4, 20), not float32 (-1, 20)"),
        ({"recent_mel": np.full((4, N_MELS), np.nan, np.float32)}, "'recent_mel' has NaN"),
        ({"sampling": np.array([0.0, 0.0])}, "temperature 0: must be"),
        ({"sampling": np.array([1.0, np.inf])}, "'sampling' has NaN or infinite"),
        ({"engine.hidden": np.full(16, np.nan, np.float32)}, "'engine.hidden' has NaN"),
        ({"engine.codes": np.full(160, 256)}, "'engine.codes' holds a number that is no code"),
        ({"engine.codes": np.full(160, -1)}, "'engine.codes' holds a number that is no code"),
        ({"engine.codes": np.full(160, "a")}, "'engine.codes' holds a number that is no code"),
    ],
)
def test_damaged_arrays_are_refused(saved: Saved, changes: Saved, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Vocoder(voice_of(), "float32", corrections=0).restore({**saved, **changes})
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_empty_mapping_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"has no 'voice'; restore what Stream.save gave"):
        Vocoder(voice_of(), "float32", corrections=0).restore({})
