"""Files in, files out: which file goes where, and what becomes of each."""

import os
import shutil
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from threading import Barrier, Lock
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

from gru_audio.arrays import Made
from gru_audio.config import Config, MelConfig, ModelConfig, SignalConfig, TrainConfig
from gru_audio.errors import AudioError, ConfigError, OutputError
from gru_audio.network.model import Network
from gru_audio.progress import Progress
from gru_audio.signal.audio import to_int16
from gru_audio.signal.audio_file import decoding, reading
from gru_audio.signal.audio_file.reading import AudioStream, open_audio, read_audio
from gru_audio.signal.mel import MelFrames, log_mel
from gru_audio.synthesis import feeding
from gru_audio.synthesis.frontend import FrameBlock
from gru_audio.synthesis.in_step import StreamsInStep
from gru_audio.synthesis.jobs import batch
from gru_audio.synthesis.jobs.batch import run_together, synthesize_files
from gru_audio.synthesis.jobs.given import Given
from gru_audio.synthesis.jobs.plan import Job, Result, plan_jobs
from gru_audio.synthesis.sampling import Sampling
from gru_audio.synthesis.torch_engine.engine import TorchEngine
from gru_audio.synthesis.vocoder import Vocoder
from gru_audio.voice.voice import Voice

HOP, RATE = 64, 8_000
PLAIN = Sampling()
Floats = NDArray[np.float32]


def vocoder_with(**mel: object) -> Vocoder:
    contract = {"sample_rate_hz": RATE, "n_fft": 256, "window_samples": 200, "hop_samples": HOP, "n_mels": 20}
    config = Config(
        mel=MelConfig.model_validate({**contract, "f_max_hz": 4_000.0, **mel}),
        signal=SignalConfig(lpc_order=8),
        model=ModelConfig(
            gru_size=16, conditioning_size=12, readout_size=10, pitch_size=8, samples_per_step=4
        ),
        train=TrainConfig(crop_samples=640),
    )
    torch.manual_seed(0)
    tensors = {name: tensor.numpy() for name, tensor in Network(config).state_dict().items()}
    return Vocoder(Voice(config, tensors))


@pytest.fixture(scope="module")
def vocoder() -> Vocoder:
    return vocoder_with()


def noise(n_samples: int, seed: int = 0) -> Floats:
    return (0.05 * np.random.default_rng(seed).standard_normal(n_samples)).astype(np.float32)


def write(path: Path, n_samples: int = 500, rate: int = RATE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, noise(n_samples), rate)
    return path


def run(vocoder: Vocoder, jobs: Sequence[Job], sampling: Sampling = PLAIN) -> list[str | None]:
    """The errors of all jobs."""
    results = list(synthesize_files(vocoder, jobs, sampling=sampling))
    assert [result.job for result in results] == list(jobs)
    return [result.error for result in results]


def targets(sources: Sequence[Path], output: Path | None, suffix: str = ".wav") -> list[Path]:
    return [job.target for job in plan_jobs(sources, output, suffix)]


# What goes where


def test_a_file_to_a_file(tmp_path: Path) -> None:
    source = write(tmp_path / "a.wav")
    assert targets([source], tmp_path / "out.flac") == [tmp_path / "out.flac"]
    assert targets([source], tmp_path / "OUT.WAV") == [tmp_path / "OUT.WAV"]


def test_files_to_a_folder(tmp_path: Path) -> None:
    sources = [write(tmp_path / "x" / "a.wav"), write(tmp_path / "y" / "b.c.flac")]
    out = tmp_path / "out"
    assert targets(sources, out, ".flac") == [out / "a.flac", out / "b.c.flac"]


def test_a_folder_keeps_its_structure(tmp_path: Path) -> None:
    for name in ("b.wav", "deep/er/a.WAV"):
        write(tmp_path / "in" / name)
    np.save(tmp_path / "in" / "m.npy", np.zeros((3, 20)))
    (tmp_path / "in" / "notes.txt").write_text("")
    out = tmp_path / "out"
    assert targets([tmp_path / "in"], out) == [out / "b.wav", out / "deep/er/a.wav", out / "m.wav"]


def test_without_an_output_results_go_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert targets([write(tmp_path / "x" / "a.wav")], None) == [Path("a-synthesized.wav")]


def test_an_input_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="no such file or folder"):
        plan_jobs([tmp_path / "a.wav"], None, ".wav")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(AudioError, match="is a pipe, not a file; check"):
        plan_jobs([tmp_path / "pipe"], None, ".wav")
    with pytest.raises(AudioError, match="holds neither audio nor mels"):
        plan_jobs([tmp_path], None, ".wav")


def test_nothing_may_be_replaced_by_mistake(tmp_path: Path) -> None:
    one, other = write(tmp_path / "a.wav"), write(tmp_path / "b" / "a.flac")
    with pytest.raises(OutputError, match="would replace an input"):
        plan_jobs([one], tmp_path, ".wav")
    with pytest.raises(OutputError, match=r"a\.wav and .*a\.flac would both be written there"):
        plan_jobs([one, other], tmp_path / "out", ".wav")
    with pytest.raises(OutputError, match="one file cannot take 2 results"):
        plan_jobs([one, other], tmp_path / "out.wav", ".wav")
    with pytest.raises(OutputError, match="one file cannot take"):
        plan_jobs([other.parent], tmp_path / "out.wav", ".wav")


# What is written


def test_audio_is_synthesized_to_its_own_length(tmp_path: Path, vocoder: Vocoder) -> None:
    source, target = write(tmp_path / "a.wav", 500), tmp_path / "new" / "out.wav"
    (result,) = synthesize_files(vocoder, plan_jobs([source], target, ".wav"), sampling=Sampling(seed=4))
    assert result.error is None
    assert result.audio_s == 500 / RATE
    written, rate = soundfile.read(target, dtype="float32")
    read_back, _ = soundfile.read(source, dtype="float32")
    expected = vocoder.synthesize(vocoder.mel(read_back, RATE), seed=4)[:500]
    assert rate == RATE
    np.testing.assert_allclose(written, np.clip(expected, -1, 1), atol=1 / 32_000)


def test_audio_of_another_rate_keeps_its_duration(tmp_path: Path, vocoder: Vocoder) -> None:
    source = write(tmp_path / "a.wav", 1_103, 11_025)
    assert run(vocoder, plan_jobs([source], tmp_path / "out.wav", ".wav")) == [None]
    assert soundfile.info(tmp_path / "out.wav").frames == -(-1_103 * RATE // 11_025)


@pytest.mark.parametrize("rate", [RATE, 11_025, 44_100])
@pytest.mark.parametrize("padding", ["same", "center"])
def test_audio_that_is_read_in_pieces_gives_what_the_whole_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rate: int, padding: str
) -> None:
    monkeypatch.setattr(decoding, "BLOCK_VALUES", 1_234)
    vocoder = vocoder_with(padding=padding)
    source = write(tmp_path / "a.wav", 9_001, rate)
    assert run(vocoder, plan_jobs([source], tmp_path / "out.wav", ".wav")) == [None]
    n_samples, lead = -(-9_001 * RATE // rate), vocoder.mel_config.lead_samples
    whole = vocoder.synthesize(vocoder.mel(read_audio(source)[0], rate))[lead : lead + n_samples]
    written, _ = soundfile.read(tmp_path / "out.wav", dtype="int16")
    np.testing.assert_array_equal(written, to_int16(whole))


def test_memory_does_not_grow_with_the_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vocoder: Vocoder
) -> None:
    monkeypatch.setattr(decoding, "BLOCK_VALUES", 50_000)
    peaks = []
    for n_samples in (200_000, 1_000_000):
        (job,) = plan_jobs(
            [write(tmp_path / f"{n_samples}.wav", n_samples, 48_000)], tmp_path / "out", ".flac"
        )
        tracemalloc.start()
        assert run(vocoder, [job]) == [None]
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 400_000, "the audio would take 4 MB, and its mel 2"


def test_memory_that_is_not_there_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vocoder: Vocoder
) -> None:
    sources = [write(tmp_path / f"in/{name}.wav") for name in "abc"]

    def scarce(path: Path, *, ask_ffmpeg: bool) -> AbstractContextManager[AudioStream]:
        if path == sources[1]:
            raise MemoryError
        return open_audio(path, ask_ffmpeg=ask_ffmpeg)

    monkeypatch.setattr(batch, "open_audio", scarce)
    errors = run(vocoder, plan_jobs(sources, tmp_path / "out", ".wav"))
    assert [errors[0], errors[2]] == [None, None]
    assert str(errors[1]).startswith(f"{sources[1]}: takes more memory than there is")


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not on PATH")
def test_ffmpeg_is_asked_where_libsndfile_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vocoder: Vocoder
) -> None:
    soundfile.write(tmp_path / "a.mp3", noise(9_000), RATE, format="MP3")
    monkeypatch.setattr(decoding, "blocks_of", lambda path, file: iter([np.zeros((1_000, 1), np.float32)]))
    assert run(vocoder, plan_jobs([tmp_path / "a.mp3"], tmp_path / "out.wav", ".wav")) == [None]
    assert soundfile.info(tmp_path / "out.wav").frames == pytest.approx(9_000, abs=2_400)


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not on PATH")
def test_clips_that_ffmpeg_is_asked_for_go_on_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vocoder: Vocoder
) -> None:
    """They begin anew; progress is told, at which a stopped batch ends, and other groups are fed between two rounds."""
    sources = [tmp_path / "a.mp3", write(tmp_path / "b.wav"), tmp_path / "c.mp3"]
    for mp3 in sources[::2]:
        soundfile.write(mp3, noise(9_000), RATE, format="MP3")
    whole, feeding, told = decoding.blocks_of, Lock(), list[str]()

    def cut(path: Path, file: Any) -> Iterator[Floats]:
        return iter([np.zeros((1_000, 1), np.float32)]) if path.suffix == ".mp3" else whole(path, file)

    def watched(path: Path, *, ask_ffmpeg: bool) -> AbstractContextManager[AudioStream]:
        told.append(f"ffmpeg {path.stem}" if ask_ffmpeg else path.stem)
        return open_audio(path, ask_ffmpeg=ask_ffmpeg)

    def tell(progress: Progress) -> None:
        assert not feeding.locked()
        told.append("progress")

    monkeypatch.setattr(decoding, "blocks_of", cut)
    monkeypatch.setattr(batch, "open_audio", watched)
    jobs = plan_jobs(sources, tmp_path / "out", ".wav")
    results = run_together(vocoder, jobs, PLAIN, Given(None, False, 0.0, True), tell, feeding=feeding)
    assert [result.job for result in results] == jobs
    assert [result.error for result in results] == [None] * 3
    lengths = [soundfile.info(job.target).frames for job in jobs]
    assert lengths == [pytest.approx(9_000, abs=2_400), 500, pytest.approx(9_000, abs=2_400)]
    assert told[:3] == ["a", "b", "c"]
    begun = told.index("ffmpeg a")
    assert told[begun + 1] == "ffmpeg c"
    assert "progress" in told[begun:]


def test_with_a_centred_contract_the_audio_stays_in_place(tmp_path: Path) -> None:
    """A click comes out where it went in, half a hop of lead having been taken off."""
    vocoder = vocoder_with(padding="center")
    click = np.zeros(20 * HOP, np.float32)
    click[10 * HOP : 10 * HOP + 8] = 0.5
    soundfile.write(tmp_path / "a.wav", click, RATE)
    assert run(vocoder, plan_jobs([tmp_path / "a.wav"], tmp_path / "out.wav", ".wav")) == [None]
    out, _ = soundfile.read(tmp_path / "out.wav", dtype="float32")
    assert out.size == click.size
    energy = np.convolve(out**2, np.ones(HOP), "same")
    assert abs(int(energy.argmax()) - 10 * HOP) < 2.5 * HOP


def test_mels_in_every_format(tmp_path: Path, vocoder: Vocoder) -> None:
    mel = log_mel(noise(10 * HOP), vocoder.mel_config)
    np.save(tmp_path / "a.npy", mel)
    np.savez(tmp_path / "b.npz", mel=mel.T)
    torch.save(torch.from_numpy(mel)[None], tmp_path / "c.pt")
    assert run(vocoder, plan_jobs([tmp_path], tmp_path / "out", ".wav")) == [None] * 3
    written = [soundfile.read(tmp_path / "out" / f"{name}.wav", dtype="int16")[0] for name in "abc"]
    assert written[0].size == 10 * HOP
    for other in written[1:]:
        np.testing.assert_array_equal(other, written[0])


def test_a_mel_of_another_contract_is_converted_or_refused(tmp_path: Path, vocoder: Vocoder) -> None:
    mel = log_mel(noise(10 * HOP), vocoder.mel_config)
    decibels = vocoder.mel_config.model_copy(update={"log": "db"})
    np.save(tmp_path / "ln.npy", mel)
    np.savez(tmp_path / "db.npz", mel=mel * 20 / np.log(10), mel_config=np.array(decibels.model_dump_json()))
    other = vocoder.mel_config.model_copy(update={"hop_samples": 50})
    np.savez(tmp_path / "hop.npz", mel=mel, mel_config=np.array(other.model_dump_json()))
    errors = run(vocoder, plan_jobs([tmp_path], tmp_path / "out", ".wav"))
    assert errors[0] is None
    assert errors[1] is not None and "hop_samples 50" in errors[1]
    assert errors[2] is None
    ln, db = (soundfile.read(tmp_path / "out" / f"{name}.wav")[0] for name in ("ln", "db"))
    assert np.mean(np.abs(ln - db)[:200] < 1e-3) > 0.9


def test_one_bad_file_does_not_stop_the_rest(tmp_path: Path, vocoder: Vocoder) -> None:
    """Also where the bad ones stand first, last, or alone in their group."""
    for index in range(20):
        write(tmp_path / "in" / f"{index:02}.wav", 100 + index)
    bad = [0, 5, *range(8, 16), 19]
    for index in bad:
        (tmp_path / "in" / f"{index:02}.wav").write_bytes(b"not audio")
    jobs = plan_jobs([tmp_path / "in"], tmp_path / "out", ".wav")
    errors = run(vocoder, jobs)
    assert [index for index, error in enumerate(errors) if error] == bad
    for index, job in enumerate(jobs):
        assert job.target.exists() == (index not in bad)
        if job.target.exists():
            assert soundfile.info(job.target).frames == 100 + index, "no file has taken another's audio"
        else:
            assert f"{index:02}.wav" in str(errors[index])


def test_a_result_that_cannot_be_written_does_not_stop_the_rest(tmp_path: Path, vocoder: Vocoder) -> None:
    sources = [write(tmp_path / f"{name}.wav", 100) for name in "abc"]
    jobs = plan_jobs(sources, tmp_path / "out", ".wav")
    (tmp_path / "out" / "b.wav").mkdir(parents=True)
    errors = run(vocoder, jobs)
    assert [error is None for error in errors] == [True, False, True]
    assert "b.wav: cannot be written" in str(errors[1])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.wav", "b.wav", "c.wav"]


def test_clipped_samples_are_counted(tmp_path: Path, vocoder: Vocoder) -> None:
    loud = np.sign(noise(2_000)) * 0.999
    soundfile.write(tmp_path / "a.wav", loud, RATE)
    (result,) = synthesize_files(vocoder, plan_jobs([tmp_path / "a.wav"], tmp_path / "o.wav", ".wav"))
    audio = vocoder.synthesize(vocoder.mel(soundfile.read(tmp_path / "a.wav")[0], RATE))[:2_000]
    assert result.n_clipped == np.count_nonzero(np.abs(audio) > 1) > 0


def test_nothing_in_is_an_error(tmp_path: Path, vocoder: Vocoder) -> None:
    write(tmp_path / "in/a.wav", 0)
    np.save(tmp_path / "in/b.npy", np.zeros((0, vocoder.mel_config.n_mels), np.float32))
    for error, what in zip(
        run(vocoder, plan_jobs([tmp_path / "in"], tmp_path / "out", ".wav")),
        ("samples", "frames"),
        strict=True,
    ):
        assert error is not None
        assert f"has no {what}" in error
    assert not (tmp_path / "out").exists()


def test_sampling_out_of_range(tmp_path: Path, vocoder: Vocoder) -> None:
    jobs = plan_jobs([write(tmp_path / "a.wav"), write(tmp_path / "b.wav")], tmp_path / "out", ".wav")
    for some in (jobs, jobs[:1]):
        with pytest.raises(ConfigError, match="temperature 0: must be"):
            run(vocoder, some, Sampling(temperature=0))
    assert not (tmp_path / "out").exists()


def test_progress_counts_jobs(tmp_path: Path, vocoder: Vocoder) -> None:
    for index in range(5):
        write(tmp_path / "in" / f"{index}.wav", 40 * HOP if index == 3 else 100)
    reports: list[Progress] = []
    jobs = plan_jobs([tmp_path / "in"], tmp_path / "out", ".wav")
    results = list(synthesize_files(vocoder, jobs, progress=reports.append))
    assert all(result.error is None for result in results)
    done = [report.done for report in reports]
    assert done == sorted(done)
    assert done[-1] == 5
    assert {report.total for report in reports} == {5}
    assert all("x real time" in report.figures["speed"] for report in reports)


# Several at a time


def test_the_samples_do_not_depend_on_the_threads(tmp_path: Path, vocoder: Vocoder) -> None:
    """Each has a result of its own, in order, and a bad one in the midst stops none."""
    for index in range(9):
        write(tmp_path / "in" / f"{index}.wav", 300 + 401 * (9 - index))
    (tmp_path / "in" / "4.wav").write_bytes(b"not audio")
    clips = []
    for threads in (1, 2, 5):
        jobs = plan_jobs([tmp_path / "in"], tmp_path / f"out-{threads}", ".wav")
        results = list(synthesize_files(vocoder, jobs, threads=threads))
        assert [result.job for result in results] == jobs
        assert [result.written for result in results] == [index != 4 for index in range(9)]
        clips.append([job.target.read_bytes() for job in jobs if job.target.exists()])
    assert len(clips[0]) == 8
    assert clips[0] == clips[1] == clips[2]


def test_progress_of_several_at_a_time(tmp_path: Path, vocoder: Vocoder) -> None:
    for index in range(5):
        write(tmp_path / "in" / f"{index}.wav", (240 + index) * HOP)
    (tmp_path / "in" / "2.wav").write_bytes(b"not audio")
    reports: list[Progress] = []
    jobs = plan_jobs([tmp_path / "in"], tmp_path / "out", ".wav")
    list(synthesize_files(vocoder, jobs, threads=3, progress=reports.append))
    done = [report.done for report in reports]
    assert done == sorted(done)
    assert done[-1] == 5
    assert sum(value != int(value) for value in done) > 5, "shares of clips under way"


def test_stopping_early_gives_up_the_clips_under_way(tmp_path: Path, vocoder: Vocoder) -> None:
    write(tmp_path / "in" / "a.wav", 100)
    for name in "bcd":
        write(tmp_path / "in" / f"{name}.wav", 3_000_000)
    jobs = plan_jobs([tmp_path / "in"], tmp_path / "out", ".wav")
    results = synthesize_files(vocoder, jobs, threads=2)
    assert next(results).written
    results.close()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.wav"]


@pytest.fixture(scope="module")
def in_step(vocoder: Vocoder) -> Vocoder:
    return Vocoder(vocoder.voice, "torch", "cpu")


def test_threads_read_at_the_same_time(
    tmp_path: Path, vocoder: Vocoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "ab":
        write(tmp_path / "in" / f"{name}.wav", 5 * HOP)
    both = Barrier(2, timeout=30)

    def met(source: Path, **options: Any) -> Any:
        both.wait()
        return reading.open_audio(source, **options)

    monkeypatch.setattr(batch, "open_audio", met)
    jobs = plan_jobs([tmp_path / "in"], tmp_path / "out", ".wav")
    assert [result.error for result in synthesize_files(vocoder, jobs, threads=2)] == [None, None]


def test_an_engine_in_step_takes_no_threads(tmp_path: Path, in_step: Vocoder) -> None:
    for index in range(3):
        write(tmp_path / "in" / f"{index}.wav", 2 * HOP + index)
    jobs, reports = plan_jobs([tmp_path / "in"], tmp_path / "out", ".wav"), list[Progress]()
    results = list(synthesize_files(in_step, jobs, threads=2, progress=reports.append))
    assert [result.audio_s * RATE for result in results] == [2 * HOP, 2 * HOP + 1, 2 * HOP + 2]
    assert reports[-1].done == 3


def test_in_step_each_keeps_to_its_own_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_step: Vocoder
) -> None:
    """Whatever their lengths, and where one is bad from its beginning, another in its midst: the rest are whole."""
    monkeypatch.setattr(feeding, "FRAMES_AT_ONCE", 6)
    lengths = [5 * HOP, 20 * HOP + 5, 20, 14 * HOP, 300]
    for index, n_samples in enumerate(lengths):
        write(tmp_path / "in" / f"{index}.wav", n_samples)
    (tmp_path / "in" / "2.wav").write_bytes(b"not audio")
    infinite = noise(14 * HOP)
    infinite[-1] = np.inf
    soundfile.write(tmp_path / "in" / "3.wav", infinite, RATE, subtype="FLOAT")
    jobs = plan_jobs([tmp_path / "in"], tmp_path / "together", ".wav")
    alone = [Job(job.source, tmp_path / "alone" / job.target.name) for job in jobs]
    errors = run(in_step, jobs)
    assert [index for index, error in enumerate(errors) if error] == [2, 3]
    assert "infinite" in str(errors[3])
    assert [run(in_step, [job]) for job in alone] == [[error] for error in errors]
    names = sorted(path.name for path in (tmp_path / "together").iterdir())
    assert names == ["0.wav", "1.wav", "4.wav"]
    for name in names:
        one, other = (soundfile.read(tmp_path / folder / name)[0] for folder in ("together", "alone"))
        assert one.shape == other.shape == (lengths[int(name[0])],)
        # Products of several streams may round differently, and a draw then comes out otherwise.
        np.testing.assert_allclose(one[:200], other[:200], atol=1e-3)


def test_in_step_memory_does_not_grow_with_the_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_step: Vocoder
) -> None:
    monkeypatch.setattr(decoding, "BLOCK_VALUES", 10_000)
    monkeypatch.setattr(in_step.engine, "generate", silence)
    peaks = []
    for n_samples in (60_000, 300_000):
        for name in "ab":
            write(tmp_path / f"{n_samples}/{name}.wav", n_samples)
        jobs = plan_jobs([tmp_path / str(n_samples)], tmp_path / "out", ".wav")
        tracemalloc.start()
        assert run(in_step, jobs) == [None, None]
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 300_000, "the two clips' audio would take 2.4 MB"


def silence(state: object, blocks: Sequence[FrameBlock], *_: object) -> Floats:
    """In the sample loop's place, which takes long in torch."""
    return np.zeros((len(blocks), len(blocks[0]) * HOP), np.float32)


def test_stopping_early_in_step_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_step: Vocoder
) -> None:
    monkeypatch.setattr(feeding, "FRAMES_AT_ONCE", 6)
    for name in "ab":
        write(tmp_path / "in" / f"{name}.wav", 20 * HOP)

    def stop(_: Progress) -> None:
        if (tmp_path / "out").exists():  # what is written has begun
            raise KeyboardInterrupt

    jobs = plan_jobs([tmp_path / "in"], tmp_path / "out", ".wav")
    with pytest.raises(KeyboardInterrupt):
        list(synthesize_files(in_step, jobs, progress=stop))
    assert not list((tmp_path / "out").iterdir())


def test_two_groups_under_way_make_what_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each with threads for its files, as on a GPU; one file cannot be read."""
    n_files = 2 * batch.JOBS_FOR_THREADS
    for index in range(n_files):
        write(tmp_path / "in" / f"{index:02}.wav", 100 + 13 * index)
    (tmp_path / "in" / "07.wav").write_bytes(b"RIFF")
    voice = vocoder_with().voice
    vocoder = Vocoder(voice, "torch", "cpu")
    assert vocoder.engine.groups_at_once == 1
    expected = run(vocoder, plan_jobs([tmp_path / "in"], tmp_path / "one", ".wav"))
    assert [error is not None for error in expected] == [index == 7 for index in range(n_files)]
    groups, run_together = list[int](), batch.run_together

    def counted(vocoder: Vocoder, group: Sequence[Job], *rest: Any, **more: Any) -> list[Result]:
        groups.append(len(group))
        return run_together(vocoder, group, *rest, **more)

    opened = list[str]()

    def noted(source: Path, **options: Any) -> Any:
        opened.append(source.stem)
        return reading.open_audio(source, **options)

    monkeypatch.setattr(batch, "run_together", counted)
    monkeypatch.setattr(batch, "open_audio", noted)
    monkeypatch.setattr(TorchEngine, "streams_at_once", 100)
    monkeypatch.setattr(TorchEngine, "groups_at_once", 2)
    assert run(vocoder, plan_jobs([tmp_path / "in"], tmp_path / "two", ".wav")) == expected
    assert groups == [n_files // 2] * 2
    numbers = [{int(name) for name in part} for part in (opened[: n_files // 2], opened[n_files // 2 :])]
    assert sorted(map(min, numbers)) == [0, n_files // 2], "one group is fed, then the other"
    for path in sorted((tmp_path / "one").iterdir()):
        np.testing.assert_allclose(
            read_audio(tmp_path / "two" / path.name)[0], read_audio(path)[0], atol=1e-3, err_msg=path.name
        )


class AsOnADevice(StreamsInStep):
    """Streams that take frames when they are launched, and are not waiting from then on."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.n_pushed_meanwhile = 0
        self._is_working = False

    def push(self, number: int, frames: MelFrames) -> None:
        self.n_pushed_meanwhile += self._is_working
        super().push(number, frames)

    def launch(self) -> Callable[[], Sequence[Made]]:
        self._is_working = any(map(self.is_waiting, range(len(self._lanes))))
        made = super().run()

        def made_of_all() -> Sequence[Made]:
            self._is_working = False
            return made

        return made_of_all


def test_files_are_read_while_a_device_works_and_come_out_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long and short ones, one that cannot be read, and one whose end is missing."""
    monkeypatch.setattr(feeding, "FRAMES_AT_ONCE", 2)
    for name, n_samples in (("a", 10 * HOP), ("b", 3), ("c", 5 * HOP + 1), ("d", 9 * HOP)):
        write(tmp_path / "in" / f"{name}.wav", n_samples)
    (tmp_path / "in" / "e.wav").write_bytes(b"RIFF")
    cut = tmp_path / "in" / "d.wav"
    cut.write_bytes(cut.read_bytes()[: -4 * HOP])
    vocoder = Vocoder(vocoder_with().voice, "torch", "cpu")
    expected = run(vocoder, plan_jobs([tmp_path / "in"], tmp_path / "one", ".wav"))
    made = list[AsOnADevice]()

    def start_in_step(self: Vocoder, n_streams: int, sampling: Sampling) -> AsOnADevice:
        made.append(AsOnADevice(self.ready, n_streams, sampling))
        return made[-1]

    monkeypatch.setattr(Vocoder, "start_in_step", start_in_step)
    assert run(vocoder, plan_jobs([tmp_path / "in"], tmp_path / "two", ".wav")) == expected
    assert sum(streams.n_pushed_meanwhile for streams in made) > 3
    assert len(list((tmp_path / "one").iterdir())) >= 3
    for path in (tmp_path / "one").iterdir():
        assert (tmp_path / "two" / path.name).read_bytes() == path.read_bytes(), path.name
