"""The real `gru-audio synthesize`: between pipes, and with several clips at a time."""

import json
import os
import pty
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from support.warm_process import WarmProcess, warm_process

from gru_audio.config import MelConfig, load_config
from gru_audio.errors import GruAudioError
from gru_audio.network.model import Network
from gru_audio.signal.audio import to_int16
from gru_audio.synthesis.jobs.pipe import Content, synthesize_pieces
from gru_audio.synthesis.sampling import Sampling
from gru_audio.synthesis.vocoder import Vocoder
from gru_audio.voice.voice import Voice, save_voice

Floats = NDArray[np.float32]

RATE, HOP, N_MELS = 16_000, 200, 80
FRAME_BYTES = 4 * N_MELS
VOICE = "--voice voice.safetensors"
TINY = ("model.gru_size=16", "model.conditioning_size=16", "model.readout_size=16", "model.pitch_size=16")


def voice_with(**mel: object) -> Voice:
    config = load_config("tiny", [*TINY, "model.samples_per_step=4"])
    contract = MelConfig.model_validate({**config.mel.model_dump(), **mel})
    config = config.model_copy(update={"mel": contract})
    torch.manual_seed(0)
    return Voice(config, {name: tensor.numpy() for name, tensor in Network(config).state_dict().items()})


@pytest.fixture(scope="module")
def vocoder() -> Vocoder:
    return Vocoder(voice_with())


@pytest.fixture(scope="module")
def prompt() -> Vocoder:
    """With the least lookahead."""
    return Vocoder(voice_with(), corrections=0)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, vocoder: Vocoder) -> Path:
    """A folder with a voice, clips, mels, and what is no clip."""
    folder = tmp_path_factory.mktemp("world")
    save_voice(folder / "voice.safetensors", voice_with())
    (folder / "in").mkdir()
    for index in range(6):
        soundfile.write(folder / f"in/{index}.wav", speech_like(2_000 + 777 * index), RATE)
    (folder / "in/3.wav").write_text("no audio")
    (folder / "long").mkdir()
    np.save(folder / "long/a.npy", vocoder.mel(speech_like(4_000), RATE))
    for name in "bc":
        np.save(folder / f"long/{name}.npy", np.full((200_000, N_MELS), -4.0, np.float16))
    return folder


def speech_like(n_samples: int) -> Floats:
    t = np.arange(n_samples) / RATE
    buzz = sum(np.sin(2 * np.pi * 120 * k * t) / k for k in range(1, 15))
    noise = np.random.default_rng(n_samples).standard_normal(n_samples)
    return np.asarray(0.1 * np.sin(3 * t) * buzz + 0.01 * noise, np.float32)


@pytest.fixture(scope="module")
def mel(vocoder: Vocoder) -> Floats:
    return vocoder.mel(speech_like(20 * HOP), RATE)


def command(arguments: str) -> list[str]:
    return [sys.executable, "-m", "gru_audio", "synthesize", *shlex.split(arguments)]


ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200", "NO_COLOR": "1"}


Run = Callable[..., "subprocess.CompletedProcess[bytes]"]


@pytest.fixture(scope="module")
def warm_command() -> Iterator[WarmProcess]:
    """What need not be a new process is forked from one that has spoken before."""
    with warm_process(
        "import gru_audio; gru_audio.load(engine='int8'); import gru_audio.cli.synthesize"
    ) as process:
        yield process


@pytest.fixture
def run(warm_command: WarmProcess, world: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs the command in the world, on what stdin holds."""
    said = tmp_path_factory.mktemp("said") / "it"

    def run(arguments: str, stdin: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
        words = ["synthesize", *shlex.split(arguments)]
        return warm_command.run(words, said, folder=world, stdin=stdin, COLUMNS="200", NO_COLOR="1")

    return run


@contextmanager
def running(arguments: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The command with open pipes; it is ended at the end."""
    with subprocess.Popen(
        command(arguments),
        cwd=folder,
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def read_bytes(stream: IO[bytes], n_bytes: int) -> bytes:
    """So many bytes, however they come; fewer where the stream ends."""
    data = b""
    while len(data) < n_bytes and (more := stream.read(n_bytes - len(data))):
        data += more
    return data


def assert_usage_error(done: subprocess.CompletedProcess[bytes], *says: str) -> None:
    said = " ".join(done.stderr.decode().replace("│", " ").split())  # wherever it is wrapped
    assert done.returncode == 2
    assert done.stdout == b""
    assert "Traceback" not in said
    for part in says:
        assert part in said


# Bytes in pieces, without a process


def pieces_of(data: bytes, size: int) -> Iterator[bytes]:
    return (data[first : first + size] for first in range(0, len(data), size))


def piped(vocoder: Vocoder, data: bytes, content: Content, size: int, seed: int = 0) -> Floats:
    found = list(synthesize_pieces(vocoder, pieces_of(data, size), content, Sampling(seed)))
    assert all(part.size for part in found)
    return np.concatenate([np.zeros(0, np.float32), *found])


@pytest.mark.parametrize("size", [1, 319, 320, 1_000, 100_000])
def test_mel_bytes_cut_anywhere(vocoder: Vocoder, mel: Floats, size: int) -> None:
    expected = vocoder.synthesize(mel, seed=2)
    np.testing.assert_array_equal(piped(vocoder, mel.tobytes(), "mel", size, seed=2), expected)


@pytest.mark.parametrize("padding", ["same", "center"])
@pytest.mark.parametrize("n_samples", [0, 1, 99, 150, 199, 200, 450, 3_217])
def test_pcm_cut_anywhere_is_the_offline_copy_synthesis(padding: str, n_samples: int) -> None:
    """As long as what came in, and in its place also under a centred contract."""
    vocoder = Vocoder(voice_with(padding=padding))
    pcm = to_int16(speech_like(n_samples))
    lead = vocoder.mel_config.lead_samples
    expected = vocoder.synthesize(vocoder.mel(pcm, RATE))[lead : lead + n_samples]
    assert expected.size == n_samples
    for size in (1, 2, 999, 100_000)[n_samples > 1_000 :]:
        found = piped(vocoder, pcm.astype("<i2").tobytes(), "pcm", size)
        np.testing.assert_array_equal(found, expected)


def test_a_frame_that_is_not_finite_ends_the_audio_before_it(vocoder: Vocoder, mel: Floats) -> None:
    broken = mel.copy()
    broken[13, 5] = np.inf
    for size in (320, 5_000, 100_000):
        parts: list[Floats] = []
        with pytest.raises(GruAudioError, match="mel frame 13 has NaN or infinite values"):
            for part in synthesize_pieces(vocoder, pieces_of(broken.tobytes(), size), "mel", Sampling()):
                parts.append(part)
        np.testing.assert_array_equal(np.concatenate(parts), vocoder.synthesize(mel[:13]))


def test_mel_bytes_of_another_log_are_converted(vocoder: Vocoder, mel: Floats) -> None:
    decibels = vocoder.mel_config.model_copy(update={"log": "db"})
    data = (mel * np.float32(20 / np.log(10))).tobytes()
    found = np.concatenate(list(synthesize_pieces(vocoder, [data], "mel", Sampling(), decibels)))
    np.testing.assert_allclose(found[:100], vocoder.synthesize(mel)[:100], atol=1e-4)
    other = vocoder.mel_config.model_copy(update={"hop_samples": 160})
    with pytest.raises(GruAudioError, match=r"hop_samples 160, not 200; .* or add --adapt, at some loss$"):
        next(synthesize_pieces(vocoder, iter([b""]), "mel", Sampling(), other))


@pytest.mark.parametrize("size", [4, 317, 5_000])
def test_mel_bytes_of_another_hop_are_interpolated_as_they_come(
    vocoder: Vocoder, mel: Floats, size: int
) -> None:
    other = vocoder.mel_config.model_copy(update={"hop_samples": 160})
    data, adapted = mel.tobytes(), vocoder.adapt(mel, other)
    assert len(adapted) == round(len(mel) * 0.8)
    found = list(
        synthesize_pieces(vocoder, pieces_of(data, size), "mel", Sampling(), other, adapt=True, check=False)
    )
    np.testing.assert_array_equal(np.concatenate(found), vocoder.synthesize(adapted, check=False))


def test_a_pipe_tells_what_it_interpolates(run: Run, vocoder: Vocoder, mel: Floats) -> None:
    data, other = mel.tobytes(), vocoder.mel_config.model_copy(update={"hop_samples": 180})
    refused = run(f"- {VOICE} --mel hop_samples=180 --force", data)
    assert refused.returncode == 1
    assert b"hop_samples 180, not 200" in refused.stderr
    done = run(f"- {VOICE} --mel hop_samples=180 --force --adapt", data)
    assert done.returncode == 0
    assert b"stdin: interpolated from a mel with hop_samples 180, not 200, at some loss" in done.stderr
    broken = run(f"- {VOICE} --mel hop_samples=180 --adapt", np.full_like(mel, np.nan).tobytes())
    assert b"stdin: interpolated" in broken.stderr  # so before it is read
    quiet = run(f"- {VOICE} --mel hop_samples=180 --force --adapt --quiet", data)
    assert b"interpolated" not in quiet.stderr
    expected = vocoder.synthesize(vocoder.adapt(mel, other), check=False)
    np.testing.assert_allclose(np.frombuffer(done.stdout, "<i2") / 2**15, expected, atol=1e-4)


def test_mels_are_sharpened_in_files_and_streams(
    run: Run, vocoder: Vocoder, mel: Floats, tmp_path: Path
) -> None:
    expected = to_int16(vocoder.synthesize(vocoder.adapt(mel, vocoder.mel_config, sharpen=1.5), check=False))
    assert not np.array_equal(expected, to_int16(vocoder.synthesize(mel)))
    done = run(f"- {VOICE} --sharpen 1.5 --force --quiet", mel.tobytes())
    assert done.returncode == 0
    np.testing.assert_array_equal(np.frombuffer(done.stdout, "<i2"), expected)
    np.save(tmp_path / "a.npy", mel)
    assert run(f"{tmp_path}/a.npy -o {tmp_path}/a.wav {VOICE} --sharpen 1.5 --force --quiet").returncode == 0
    np.testing.assert_array_equal(soundfile.read(tmp_path / "a.wav", dtype="int16")[0], expected)
    refused = run(f"{tmp_path}/a.npy -o {tmp_path}/b.wav {VOICE} --sharpen 3.1")
    assert refused.returncode == 2
    assert b"--sharpen" in refused.stderr


def test_what_is_said_of_stdin_is_of_the_contract_that_was_given(run: Run, mel: Floats) -> None:
    done = run(f"- {VOICE} --mel n_mels=40,hop_samples=100", mel.tobytes())
    assert done.returncode == 1
    assert done.stderr.startswith(
        b"stdin: mel frames of 40 float32 values, 160 a second, under the contract of"
    )


# Pipes; where bytes come as one, from a file


def test_the_first_audio_comes_while_stdin_is_open(world: Path, prompt: Vocoder, mel: Floats) -> None:
    """Frame by frame: two frames say nothing, each further one a frame's audio, the end the rest."""
    expected = to_int16(prompt.synthesize(mel, seed=3)).tobytes()
    with running(f"- {VOICE} --corrections 0 --seed 3 --quiet", world) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdin.write(mel[:2].tobytes())
        heard = b""
        for frame in mel[2:]:
            process.stdin.write(frame.tobytes())
            heard += read_bytes(process.stdout, 2 * HOP)  # would wait for ever, were it held back
        assert len(heard) == 2 * HOP * (len(mel) - 2)
        process.stdin.close()
        heard += process.stdout.read()
        assert process.wait(120) == 0
        assert process.stderr.read() == b""
    assert heard == expected


def test_pcm_comes_out_as_pcm_goes_in(world: Path, prompt: Vocoder) -> None:
    pcm = to_int16(speech_like(5_123))
    data = pcm.astype("<i2").tobytes()
    expected = to_int16(prompt.synthesize(prompt.mel(pcm, RATE))[: pcm.size]).tobytes()
    with running(f"- --stdin pcm {VOICE} --corrections 0", world) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdin.write(data[: 2 * 900])  # what the help promises: 56.25 ms for the first frame
        heard = read_bytes(process.stdout, 2 * HOP)
        process.stdin.write(data[2 * 900 :])
        process.stdin.close()
        heard += read_bytes(process.stdout, len(expected))
        assert process.wait(120) == 0
        said = process.stderr.read().decode().splitlines()
    assert heard == expected
    assert said[0] == "stdin: s16le, mono, 16000 Hz; stdout: s16le, mono, 16000 Hz"
    assert said[-1].startswith("stdout: 0.32 s of audio in ")


def test_a_pipe_to_a_file(run: Run, tmp_path: Path, vocoder: Vocoder, mel: Floats) -> None:
    done = run(f"- -o {tmp_path}/new/out.wav {VOICE} --json --quiet", mel.tobytes())
    assert (done.returncode, done.stderr) == (0, b"")
    (file,) = json.loads(done.stdout)["files"]
    assert (file["input"], file["output"], file["duration_s"]) == ("-", f"{tmp_path}/new/out.wav", 0.25)
    written, rate = soundfile.read(tmp_path / "new/out.wav", dtype="int16")
    assert rate == RATE
    np.testing.assert_array_equal(written, to_int16(vocoder.synthesize(mel)))


def test_clipped_samples_are_counted_on_stderr(run: Run, vocoder: Vocoder, mel: Floats) -> None:
    loud = mel + 6
    n_clipped = np.count_nonzero(np.abs(vocoder.synthesize(loud)) > 1)
    done = run(f"- {VOICE}", loud.tobytes())
    assert n_clipped > 0
    assert f"stdout: {n_clipped} samples over full scale were clipped" in done.stderr.decode()


@pytest.mark.parametrize(
    ("content", "extra", "says"),
    [
        (
            "mel",
            b"123",
            "stdin: ends with 3 bytes of a mel frame's 320 (80 float32 values); pipe in whole frames",
        ),
        (
            "mel",
            b"1",
            "stdin: ends with 1 byte of a mel frame's 320 (80 float32 values); pipe in whole frames",
        ),
        ("pcm", b"1", "stdin: ends with 1 byte of a sample's 2; pipe in signed 16-bit samples"),
    ],
)
def test_a_cut_end_is_an_error_after_the_audio(
    run: Run, vocoder: Vocoder, mel: Floats, content: Content, extra: bytes, says: str
) -> None:
    pcm = to_int16(speech_like(1_000))
    whole = mel.tobytes() if content == "mel" else pcm.tobytes()
    expected = vocoder.synthesize(mel if content == "mel" else vocoder.mel(pcm, RATE))
    done = run(f"- --stdin {content} {VOICE} --quiet", whole + extra)
    assert done.returncode == 1
    assert done.stdout == to_int16(expected).tobytes()
    assert done.stderr.decode() == f"error: {says}\n"


@pytest.mark.parametrize(("content", "what"), [("mel", "mel frames"), ("pcm", "samples")])
def test_nothing_in_is_an_error(run: Run, tmp_path: Path, content: str, what: str) -> None:
    done = run(f"- --stdin {content} {VOICE} --quiet -o {tmp_path}/out.wav")
    said = f"error: stdin: nothing came in; pipe {what} in\n"
    assert (done.returncode, done.stdout, done.stderr.decode()) == (1, b"", said)
    assert not list(tmp_path.iterdir())


def test_a_file_with_a_header_is_refused(run: Run, world: Path, tmp_path: Path) -> None:
    clip = (world / "in/0.wav").read_bytes()
    done = run(f"- --stdin pcm {VOICE} --quiet -o {tmp_path}/out.wav", clip)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(
        b"error: stdin: a file (WAV), not frames or samples without a header; name the file"
    )
    assert not list(tmp_path.iterdir())


FIRST_BYTES = {
    "m4a": b"\0\0\0\x1cftypM4A \0\0\2\0M4A isomiso2",
    "AIFF": b"FORM\0\1\0\0AIFFCOMM",
    "webm": b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\1",
    "safetensors": b'\x48\0\0\0\0\0\0\0{"mel":{"dtype":"F32"',
    "JSON": b"[[-11.5, -11.5, -11.5, -11.5],",
    "text": b"-4.25 -4.5 -3.75 -2.0 -1.5 0.25\n",
    "gzip": b"\x1f\x8b\x08\0\0\0\0\0\0\3",
    "MP3": (b"\xff\xfb\x50\xc0" + bytes(204)) * 3,
    "ADTS": (b"\xff\xf1\x60\x40\x0f\xff\xfc" + bytes(120)) * 5,
    "ID3": b"ID3\4\0\0\0\0\0\x23TSSE",
    "HDF5": b"\x89HDF\r\n\x1a\n",
}


@pytest.mark.parametrize("content", ["mel", "pcm"])
@pytest.mark.parametrize("kind", FIRST_BYTES)
def test_what_is_no_stream_is_refused_at_its_first_bytes(
    vocoder: Vocoder, kind: str, content: Content
) -> None:
    """However it is cut, and also where a whole file is no longer than its head."""
    random = np.random.default_rng(0).bytes(5_000)
    for data in (FIRST_BYTES[kind] + bytes(40), FIRST_BYTES[kind] + random):
        for size in (7, 64, 10_000):
            with pytest.raises(GruAudioError, match=r"^stdin: .*(without a header|no mel has)"):
                next(synthesize_pieces(vocoder, pieces_of(data, size), content, Sampling()))


def test_one_kind_of_numbers_for_another_is_refused(vocoder: Vocoder, mel: Floats) -> None:
    clip = speech_like(4_000)
    for wrong in (clip.astype("<f4"), mel.astype("<f4"), (0.01 * clip).astype("<f4")):
        with pytest.raises(GruAudioError, match="stdin: float32 values, not signed 16-bit samples"):
            next(synthesize_pieces(vocoder, pieces_of(wrong.tobytes(), 100), "pcm", Sampling()))
    for scale in (1, 0.01, 0.1):
        pcm = to_int16(scale * clip).tobytes()
        with pytest.raises(GruAudioError, match=r"no mel has; pipe in little-endian|mel frame 0 has NaN"):
            next(synthesize_pieces(vocoder, pieces_of(pcm, 100), "mel", Sampling()))
    for doubles in (np.full((30, 40), -5.0), mel.round(), mel.astype(np.float16)):
        with pytest.raises(
            GruAudioError, match="every other value of the first frame is 0, as if they were float64"
        ):
            data = doubles.astype("<f8").tobytes()
            next(synthesize_pieces(vocoder, pieces_of(data, 100), "mel", Sampling()))


def test_a_reader_that_leaves_ends_it_quietly(world: Path, mel: Floats) -> None:
    with running(f"- {VOICE} --corrections 0 --quiet", world) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdin.write(mel[:3].tobytes())
        read_bytes(process.stdout, 2 * HOP)
        process.stdout.close()
        process.stdin.write(mel[3:6].tobytes())
        assert process.wait(120) == 141
        assert process.stderr.read() == b""


def test_ctrl_c_while_waiting_for_stdin(world: Path, mel: Floats) -> None:
    with running(f"- {VOICE} --corrections 0 --quiet", world) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdin.write(mel[:3].tobytes())
        read_bytes(process.stdout, 2 * HOP)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(120) == 130
        assert process.stderr.read() == b"stopped\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("- in/0.wav", ("- must be the only input", "give it alone")),
        ("- -", ("- must be the only input", "give it alone")),
        ("- --json", ("--json", "stdout carries the audio", "add -o FILE")),
        ("- -o out", ("--output", "no name for a file", "give a .wav or .flac")),
        ("- --stdin wav", ("--stdin", "wav", "mel")),
        ("in --jobs 0", ("--jobs", "0", "1")),  # Typer's words, which are others from 0.29 on
        ("in --seed -3", ("--seed", "-3", "0")),
        ("in --temperature warm", ("--temperature", "'warm'")),
        ("in --format mp3", ("--format", "'mp3' is not one of 'wav', 'flac'")),
    ],
)
def test_wrong_uses(run: Run, arguments: str, says: tuple[str, ...]) -> None:
    assert_usage_error(run(f"{arguments} {VOICE}"), *says)


def test_terminals_are_refused(world: Path) -> None:
    ours, terminal = pty.openpty()
    try:
        for streams, says in (
            ({"stdin": terminal}, "stdin is neither a pipe nor"),
            ({"stdout": terminal}, "stdout is neither a pipe nor"),
        ):
            given = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, **streams}
            done = subprocess.run(  # type: ignore[call-overload]
                command(f"- {VOICE}"),
                cwd=world,
                env=ENVIRONMENT,
                stderr=subprocess.PIPE,
                check=False,
                **given,
            )
            assert done.returncode == 2
            assert says in done.stderr.decode()
    finally:
        os.close(ours)
        os.close(terminal)


def test_a_closed_stdin_is_refused(world: Path) -> None:
    line = f"exec {shlex.join(command(f'- {VOICE}'))} <&-"
    done = subprocess.run(
        ["/bin/sh", "-c", line], cwd=world, env=ENVIRONMENT, capture_output=True, check=False
    )
    assert_usage_error(done, "stdin is neither a pipe nor a file")


# Several clips at a time


def test_the_samples_do_not_depend_on_the_jobs(run: Run, tmp_path: Path) -> None:
    for jobs in (1, 3):
        done = run(f"in -o {tmp_path}/{jobs} {VOICE} --jobs {jobs} --json --quiet")
        assert done.returncode == 1
        assert done.stderr.decode().startswith("error: in/3.wav: ")
        files = json.loads(done.stdout)["files"]
        assert [file["input"] for file in files] == [f"in/{index}.wav" for index in range(6)]
        assert [file["output"] is None for file in files] == [index == 3 for index in range(6)]
    one, three = (sorted((tmp_path / str(jobs)).iterdir()) for jobs in (1, 3))
    assert [path.name for path in one] == [f"{index}.wav" for index in (0, 1, 2, 4, 5)]
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in three]


def test_ctrl_c_ends_the_clips_under_way(world: Path, tmp_path: Path) -> None:
    """Each of the two long ones has 40 minutes of audio before it."""
    with running(f"long -o {tmp_path} {VOICE} --jobs 2 --quiet", world) as process:
        assert process.stderr
        give_up = time.monotonic() + 120
        while not (tmp_path / "a.wav").exists() and time.monotonic() < give_up:
            time.sleep(0.02)
        time.sleep(0.3)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(120) == 130
        assert process.stderr.read() == b"stopped\n"
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]
