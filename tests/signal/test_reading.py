"""Reading audio files: whole, in pieces, by content, within bounds, and in spite of what is planted in them."""

import contextlib
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from gru_audio.errors import AudioError
from gru_audio.signal import bounds
from gru_audio.signal.audio import rms_dbfs, to_int16
from gru_audio.signal.audio_file import decoding
from gru_audio.signal.audio_file import ffmpeg as ffmpeg_module
from gru_audio.signal.audio_file.kinds import kind_of
from gru_audio.signal.audio_file.reading import Encoding, open_audio, read_audio, read_encoding
from gru_audio.signal.audio_file.stderr_notes import without_mpg123_notes

RATE = 16_000
needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not on PATH")

Edit = Callable[[bytes], bytes]


def tone(seconds: float, hz: float = 200.0, level: float = 0.5, rate: int = RATE) -> NDArray[np.float32]:
    time = np.arange(round(seconds * rate)) / rate
    return (level * np.sin(2 * np.pi * hz * time)).astype(np.float32)


def ffmpeg(*arguments: str | Path) -> None:
    subprocess.run(["ffmpeg", "-v", "error", "-y", *map(str, arguments)], check=True)


def streamed(source: Path, container: str, *options: str) -> bytes:
    """A file that ffmpeg writes to a pipe, and so cannot go back to state its length in."""
    command = ["ffmpeg", "-v", "error", "-i", str(source), *options, "-f", container, "-"]
    return subprocess.run(command, check=True, capture_output=True).stdout


PLAIN = {
    ".wav": "WAV",
    ".rf64": "RF64",
    ".aiff": "AIFF",
    ".au": "AU",
    ".w64": "W64",
    ".caf": "CAF",
    ".sph": "NIST",
}
BY_LIBSNDFILE = {**PLAIN, ".flac": "FLAC", ".ogg": "OGG", ".mp3": "MP3"}


def written(folder: Path, suffix: str, audio: NDArray[np.float32]) -> bytes:
    path = folder / f"made{suffix}"
    soundfile.write(path, to_int16(audio), RATE, format=BY_LIBSNDFILE[suffix])
    return path.read_bytes()


def refusal(path: Path) -> str:
    with pytest.raises(AudioError) as caught:
        read_audio(path)
    told = str(caught.value)
    assert told.startswith(f"{path}: ") or "ffmpeg" in told
    assert "\n" not in told
    return told


# Bytes that follow, or are missing


@pytest.mark.parametrize("suffix", BY_LIBSNDFILE)
def test_joined_files_are_read_one_after_the_other(tmp_path: Path, suffix: str) -> None:
    """Also where the name says nothing, and where titles stand between the files."""
    first, second = written(tmp_path, suffix, tone(1.2, 200)), written(tmp_path, suffix, tone(0.8, 500))
    title = b"ID3\x04\x00\x00\x00\x00\x00\x14" + bytes(20)
    for name, content in {
        "a.dat": first + second,
        "b.dat": first + title + second,
        "c.dat": first * 3,
    }.items():
        (tmp_path / name).write_bytes(content)
        audio, rate = read_audio(tmp_path / name)
        expected = 3 * 1.2 if name == "c.dat" else 2.0
        assert audio.size / rate == pytest.approx(expected, abs=0.02 if suffix != ".mp3" else 0.15)
    heard = read_audio(tmp_path / "a.dat")[0][-RATE // 4 :]
    peak_hz = np.argmax(np.abs(np.fft.rfft(heard * np.hanning(heard.size)))) * RATE / heard.size
    assert peak_hz == pytest.approx(500, abs=5)


@needs_ffmpeg
@pytest.mark.parametrize("name", ["a.m4a", "a.webm", "a.wma", "a.mka", "a.tta", "a.aac", "a.spx"])
def test_joined_files_that_ffmpeg_reads(tmp_path: Path, name: str) -> None:
    soundfile.write(tmp_path / "a.wav", tone(1.5), RATE)
    ffmpeg("-i", tmp_path / "a.wav", tmp_path / name)
    (tmp_path / "b.wav").write_bytes(2 * (tmp_path / name).read_bytes())
    audio, rate = read_audio(tmp_path / "b.wav")
    assert audio.size / rate == pytest.approx(3.0, abs=0.25)


def test_joined_files_of_other_rates_are_refused(tmp_path: Path) -> None:
    first = written(tmp_path, ".wav", tone(0.5))
    soundfile.write(tmp_path / "b.flac", tone(0.5), 22_050)
    (tmp_path / "c.wav").write_bytes(first + (tmp_path / "b.flac").read_bytes())
    assert "the first has 16000 Hz, number 2 has 22050 Hz; split it" in refusal(tmp_path / "c.wav")


@pytest.mark.parametrize("suffix", BY_LIBSNDFILE)
@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
def test_a_cut_file_is_refused(tmp_path: Path, suffix: str, share: float) -> None:
    noise = 0.01 * np.random.default_rng(0).standard_normal(2 * RATE).astype(np.float32)
    whole = written(tmp_path, suffix, tone(2) + noise)
    (tmp_path / f"cut{suffix}").write_bytes(whole[: round(share * len(whole))])
    assert "truncated" in refusal(tmp_path / f"cut{suffix}")


@needs_ffmpeg
@pytest.mark.parametrize("options", ["a.m4a -movflags +faststart", "a.m4a", "a.webm", "a.mka", "a.wma"])
def test_a_cut_file_that_ffmpeg_reads_is_refused(tmp_path: Path, options: str) -> None:
    name, *more = options.split()
    soundfile.write(tmp_path / "a.wav", tone(3), RATE)
    ffmpeg("-i", tmp_path / "a.wav", *more, tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    for share in (0.5, 0.9):
        (tmp_path / f"cut-{name}").write_bytes(whole[: round(share * len(whole))])
        refusal(tmp_path / f"cut-{name}")


@pytest.mark.parametrize("suffix", PLAIN)
def test_a_file_that_is_a_byte_short_or_long_is_read(tmp_path: Path, suffix: str) -> None:
    whole = written(tmp_path, suffix, tone(1))
    for edited in (whole[:-1], whole[:-7], whole + b"\0", whole + bytes(5_000)):
        (tmp_path / f"a{suffix}").write_bytes(edited)
        assert abs(read_audio(tmp_path / f"a{suffix}")[0].size - RATE) <= 4


STATES_NOTHING: dict[str, Edit] = {
    "WAV 0": lambda data: data[:40] + bytes(4) + data[44:],
    "WAV 0, RIFF 0": lambda data: data[:4] + bytes(4) + data[8:40] + bytes(4) + data[44:],
    "WAV 0, RIFF 36": lambda data: data[:4] + b"\x24\0\0\0" + data[8:40] + bytes(4) + data[44:],
    "WAV -1": lambda data: data[:40] + b"\xff\xff\xff\xff" + data[44:],
    "WAV 2 GiB": lambda data: data[:40] + b"\xff\xff\xff\x7f" + data[44:],
    "AU 0": lambda data: data[:8] + bytes(4) + data[12:],
    "AU -1": lambda data: data[:8] + b"\xff\xff\xff\xff" + data[12:],
}


@pytest.mark.parametrize("what", STATES_NOTHING)
def test_samples_behind_a_header_that_states_none_are_read(tmp_path: Path, what: str) -> None:
    whole = written(tmp_path, f".{what[:3].strip().lower()}", tone(1))
    (tmp_path / "a").write_bytes(STATES_NOTHING[what](whole))
    np.testing.assert_array_equal(to_int16(read_audio(tmp_path / "a")[0]), to_int16(tone(1)))


@pytest.mark.parametrize("suffix", [".rf64", ".w64", ".aiff", ".caf"])
def test_samples_behind_a_chunk_that_states_none_are_read(tmp_path: Path, suffix: str) -> None:
    whole = bytearray(written(tmp_path, suffix, tone(1)))
    if suffix == ".rf64":  # the true size stands in the chunk ds64
        place = whole.index(b"ds64") + 16
        whole[place : place + 8] = bytes(8)
    elif suffix == ".w64":
        place = whole.index(b"data\xf3\xac") + 16
        whole[place : place + 8] = struct.pack("<Q", 24)
    elif suffix == ".aiff":
        frames, place = whole.index(b"COMM") + 10, whole.index(b"SSND") + 4
        whole[frames : frames + 4], whole[place : place + 4] = bytes(4), struct.pack(">I", 8)
    else:
        place = whole.index(b"data") + 4
        whole[place : place + 8] = b"\xff" * 8
    (tmp_path / "a").write_bytes(whole)
    np.testing.assert_array_equal(to_int16(read_audio(tmp_path / "a")[0]), to_int16(tone(1)))


def test_chunks_and_titles_after_the_samples_are_no_samples(tmp_path: Path) -> None:
    whole = written(tmp_path, ".wav", tone(1))
    listed = b"LIST" + struct.pack("<I", 12) + b"INFOISFT" + bytes(4)
    for after in (
        listed,
        b"ID3 " + struct.pack("<I", 6) + bytes(6),
        b"TAG" + bytes(125),
        listed + b"APETAGEX" + bytes(24),
    ):
        (tmp_path / "a.wav").write_bytes(whole + after)
        assert read_audio(tmp_path / "a.wav")[0].size == RATE
    (tmp_path / "b.wav").write_bytes(whole[:40] + bytes(4) + listed)
    assert "has no samples" in refusal(tmp_path / "b.wav")


def test_bytes_that_nothing_explains_are_told(tmp_path: Path) -> None:
    """A recorder that stopped before it brought its header up to date, for example."""
    whole = written(tmp_path, ".wav", 0.5 + 0.1 * tone(2))
    (tmp_path / "a.wav").write_bytes(whole[:40] + struct.pack("<I", 16_000) + whole[44:])
    assert "states 16000 bytes of samples, but 48000 more follow; if these are samples" in refusal(
        tmp_path / "a.wav"
    )


@pytest.mark.parametrize(
    ("at", "value", "told"),
    [
        (34, 3, "3 bits a sample, but 2 bytes for 1 channels"),
        (34, 24, "24 bits a sample, but 2 bytes for 1 channels"),
        (22, 300, "16 bits a sample, but 2 bytes for 300 channels"),
        (32, 3, "16 bits a sample, but 3 bytes for 1 channels"),
        (34, 12, ""),
        (32, 0, ""),
    ],
)
def test_a_header_that_contradicts_itself_is_told(tmp_path: Path, at: int, value: int, told: str) -> None:
    """libsndfile goes by one of the two numbers, and the samples become noise."""
    path, audio = tmp_path / "a.wav", np.sin(np.arange(3_000, dtype=np.float32) / 9)
    soundfile.write(path, audio, 16_000, subtype="PCM_16")
    head = path.read_bytes()
    path.write_bytes(head[:at] + struct.pack("<H", value) + head[at + 2 :])
    if told:
        with pytest.raises(AudioError, match=f"a.wav: .*its header contradicts itself: {told}; replace it"):
            read_audio(path)
    else:
        np.testing.assert_allclose(read_audio(path)[0], audio, atol=1e-4)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW"])
@pytest.mark.parametrize("container", ["WAV", "WAVEX"])
def test_headers_of_every_kind_of_sample_agree(tmp_path: Path, container: str, subtype: str) -> None:
    audio = 0.5 * np.sin(np.arange(6_000) / 9)
    soundfile.write(
        tmp_path / "a.wav", np.stack([audio, audio], 1), 16_000, format=container, subtype=subtype
    )
    np.testing.assert_allclose(read_audio(tmp_path / "a.wav")[0][:6_000], audio, atol=0.05)


@pytest.mark.parametrize("suffix", [".w64", ".caf", ".rf64", ".aiff", ".wav", ".au"])
def test_sizes_beyond_all_bounds_are_told_or_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # ffmpeg would take its time for each
    whole = written(tmp_path, suffix, tone(0.2))
    for place in range(0, 128, 4):
        for value in (b"\xff\xff\xff\xff\xff\xff\xff\x7f", b"\x7f" + 7 * b"\xff", 8 * b"\xff", bytes(8)):
            (tmp_path / "a").write_bytes(whole[:place] + value + whole[place + 8 :])
            with contextlib.suppress(AudioError):
                assert read_audio(tmp_path / "a")[0].size > 0


def test_pages_that_are_missing_are_told(tmp_path: Path) -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal(20 * RATE).astype(np.float32)
    whole = written(tmp_path, ".ogg", noise)
    pages = [b"OggS" + page for page in whole.split(b"OggS\0")[1:]]
    pages = [page[:4] + b"\0" + page[4:] for page in pages]
    assert b"".join(pages) == whole
    (tmp_path / "a.ogg").write_bytes(b"".join(pages[:4] + pages[6:]))
    assert "2 of its Ogg pages are missing" in refusal(tmp_path / "a.ogg")
    (tmp_path / "b.ogg").write_bytes(b"".join([*pages[:5], b"junk", *pages[5:]]))
    assert "4 bytes in it are no Ogg page" in refusal(tmp_path / "b.ogg")
    (tmp_path / "c.ogg").write_bytes(
        b"".join(pages[:-1])
    )  # a recorder that was killed: what is there, is whole
    assert 10 * RATE < read_audio(tmp_path / "c.ogg")[0].size < 20 * RATE


@pytest.mark.parametrize("suffix", BY_LIBSNDFILE)
def test_no_samples_are_an_error(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"a{suffix}").write_bytes(written(tmp_path, suffix, tone(0)))
    refusal(tmp_path / f"a{suffix}")


# By content


@pytest.mark.parametrize("suffix", BY_LIBSNDFILE)
@pytest.mark.parametrize("named", [".wav", ".mp3", ".gsm", ".m4a", ".au", ""])
def test_the_name_says_nothing(tmp_path: Path, suffix: str, named: str) -> None:
    (tmp_path / f"a{named}").write_bytes(written(tmp_path, suffix, tone(1)))
    assert read_audio(tmp_path / f"a{named}")[0].size == pytest.approx(RATE, abs=2_400)


@pytest.mark.parametrize("named", [".gsm", ".g722", ".vox", ".mp3", ".wav", ".amr"])
def test_text_is_never_audio(tmp_path: Path, named: str) -> None:
    (tmp_path / f"a{named}").write_text("these are words, and no samples of anything\n" * 100)
    assert "it is text" in refusal(tmp_path / f"a{named}")


@pytest.mark.parametrize("suffix", BY_LIBSNDFILE)
def test_kinds_are_told_by_the_first_bytes(tmp_path: Path, suffix: str) -> None:
    kind = kind_of(written(tmp_path, suffix, tone(1)))
    assert kind == {".ogg": "Ogg"}.get(suffix, BY_LIBSNDFILE[suffix])


def test_numbers_are_of_no_kind(speech: NDArray[np.float32]) -> None:
    """Neither speech as bare samples nor its mel, from anywhere on."""
    random = np.random.default_rng(0)
    for data in (
        to_int16(speech).tobytes(),
        speech.tobytes(),
        random.normal(-4, 3, 20_000).astype("<f4").tobytes(),
        random.uniform(0, 1, 20_000).astype("<f4").tobytes(),
        bytes(80_000),
    ):
        assert {kind_of(data[place : place + 8_192]) for place in range(0, len(data), 4)} == {None}


# Bounds


@pytest.mark.parametrize("rate", [0, 1, 999, 768_001, 2**31 - 1])
def test_rates_out_of_bounds_are_refused(tmp_path: Path, rate: int) -> None:
    data = written(tmp_path, ".wav", tone(1))
    (tmp_path / "a.wav").write_bytes(data[:24] + struct.pack("<I", rate) + data[28:])
    assert "Hz" in refusal(tmp_path / "a.wav") or rate in (0, 1)
    au = written(tmp_path, ".au", tone(1))
    (tmp_path / "a.au").write_bytes(au[:16] + struct.pack(">I", rate) + au[20:])
    refusal(tmp_path / "a.au")


@pytest.mark.parametrize("rate", [1_000, 384_000, 768_000])
def test_rates_in_bounds_are_read(tmp_path: Path, rate: int) -> None:
    soundfile.write(tmp_path / "a.wav", tone(1), rate)
    assert read_audio(tmp_path / "a.wav")[1] == rate


def test_what_a_small_file_swells_to_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its own header before anything is decoded, and by what is decoded where that states nothing."""
    monkeypatch.setattr(bounds, "ALWAYS_BYTES", 32 << 20)
    soundfile.write(tmp_path / "a.flac", np.zeros(9 << 20, np.int16), 48_000)
    size = (tmp_path / "a.flac").stat().st_size
    assert size < 33_000
    told = refusal(tmp_path / "a.flac")
    assert f"its samples take 0.04 GiB out of a file of {size} bytes, over the limit of 0.03" in told
    assert "set GRU_AUDIO_LIMIT_GIB=1" in told
    whole = (tmp_path / "a.flac").read_bytes()
    (tmp_path / "b.flac").write_bytes(whole[:21] + bytes([whole[21] & 0xF0]) + bytes(4) + whole[26:])
    assert "over the limit of 0.03" in refusal(tmp_path / "b.flac")
    monkeypatch.setenv("GRU_AUDIO_LIMIT_GIB", "1")
    assert read_audio(tmp_path / "a.flac")[0].size == 9 << 20
    monkeypatch.setenv("GRU_AUDIO_LIMIT_GIB", "0.001")
    (tmp_path / "c.wav").write_bytes(written(tmp_path, ".wav", tone(20)))
    assert "over the limit of 0.00" in refusal(tmp_path / "c.wav")
    for wrong in ("much", "0", "-1", "nan"):
        monkeypatch.setenv("GRU_AUDIO_LIMIT_GIB", wrong)
        with pytest.raises(AudioError, match=f"GRU_AUDIO_LIMIT_GIB='{wrong}' is no number above 0"):
            read_audio(tmp_path / "c.wav")


def test_many_channels_are_mixed_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "BLOCK_VALUES", 1_000)
    channels = np.random.default_rng(0).standard_normal((3_000, 300)).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", channels, RATE, subtype="FLOAT")
    np.testing.assert_allclose(read_audio(tmp_path / "a.wav")[0], channels.mean(axis=1), atol=1e-6)
    with open_audio(tmp_path / "a.wav") as audio:
        assert (audio.sample_rate_hz, audio.n_samples) == (RATE, 3_000)
        assert {len(block) for block in audio.blocks} == {3}


def test_memory_that_is_not_there_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write(tmp_path / "a.wav", tone(1), RATE)

    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(soundfile.SoundFile, "read", fail)
    assert "takes more memory than there is" in refusal(tmp_path / "a.wav")


def test_integers_as_floats_and_channels_that_cancel_are_told(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", 20_000 * tone(1), RATE, subtype="FLOAT")
    assert "a sample of 10000, and full scale is 1: integers of 16 bits stored as floats?" in refusal(
        tmp_path / "a.wav"
    )
    for peak, says in (
        (4e6, "24 bits .* divide them by 8388608 "),
        (1e9, "32 bits .* by 2147483648 "),
        (1e30, "anew"),
    ):
        soundfile.write(tmp_path / "a.wav", 2 * peak * tone(1), RATE, subtype="FLOAT")
        assert re.search(says, refusal(tmp_path / "a.wav"))
    left, noise = tone(1), 1e-3 * np.random.default_rng(0).standard_normal(RATE)
    soundfile.write(tmp_path / "b.wav", np.stack([left, noise - left], axis=1), RATE)
    assert "its channels cancel each other: their mean is 57 dB below them" in refusal(tmp_path / "b.wav")
    for right in (tone(1, 300), np.zeros(RATE), -0.5 * left, left):
        soundfile.write(tmp_path / "c.wav", np.stack([left, right], axis=1), RATE)
        assert read_audio(tmp_path / "c.wav")[0].size == RATE
    soundfile.write(tmp_path / "d.wav", np.zeros((RATE, 2)), RATE)
    assert not read_audio(tmp_path / "d.wav")[0].any()


# ffmpeg on a short leash


@needs_ffmpeg
@pytest.mark.parametrize("name", ["a.m4a", "a.wav", "a.mp3", "a.dat", "a.ogg"])
@pytest.mark.parametrize("kind", ["hls", "endless hls", "concat", "dash", "sdp"])
def test_playlists_are_not_followed(tmp_path: Path, name: str, kind: str) -> None:
    secret = tmp_path / "secret.wav"
    soundfile.write(secret, tone(1), RATE)
    lists = {
        "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{secret}\n#EXT-X-ENDLIST\n",
        "endless hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{secret}\n",
        "concat": f"ffconcat version 1.0\nfile {secret}\n",
        "dash": f'<?xml version="1.0"?><MPD><Period><BaseURL>{secret}</BaseURL></Period></MPD>',
        "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=-\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n",
    }
    (tmp_path / name).write_text(lists[kind])
    began = time.monotonic()
    refusal(tmp_path / name)
    assert time.monotonic() - began < 50
    with pytest.raises(AudioError, match="is not a format that can be read"):
        read_audio(tmp_path / name, input_format=kind.rsplit(maxsplit=1)[-1])


def fake_ffmpeg(folder: Path, script: str) -> dict[str, str]:
    """An environment whose ffmpeg is a script."""
    folder.mkdir()
    (folder / "ffmpeg").write_text(f"#!{sys.executable}\n{script}")
    (folder / "ffmpeg").chmod(0o755)
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}


def test_ffmpeg_has_a_time_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marker = tmp_path / "pid"
    script = f"import os, time, pathlib\npathlib.Path({str(marker)!r}).write_text(str(os.getpid()))\ntime.sleep(600)\n"
    monkeypatch.setenv("PATH", fake_ffmpeg(tmp_path / "bin", script)["PATH"])
    monkeypatch.setattr(ffmpeg_module, "LEAST_LIMIT_S", 1.5)
    (tmp_path / "a.m4a").write_bytes(b"\0\0\0\x20ftypM4A " * 100)
    assert "it was stopped after 2 s" in refusal(tmp_path / "a.m4a")
    begun = marker.read_text() if marker.exists() else ""  # on a busy machine it may not have come so far
    assert not begun or is_gone(int(begun))


def test_what_ffmpeg_starts_ends_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = "import subprocess\nsubprocess.run(['sleep', '600'])\n"
    monkeypatch.setenv("PATH", fake_ffmpeg(tmp_path / "bin", script)["PATH"])
    monkeypatch.setattr(ffmpeg_module, "LEAST_LIMIT_S", 1.5)
    (tmp_path / "a.m4a").write_bytes(b"\0\0\0\x20ftypM4A " * 100)
    assert "it was stopped after 2 s" in refusal(tmp_path / "a.m4a")


def test_ffmpeg_ends_with_its_parent(tmp_path: Path) -> None:
    marker = tmp_path / "pid"
    script = f"import os, time, pathlib\npathlib.Path({str(marker)!r}).write_text(str(os.getpid()))\ntime.sleep(600)\n"
    environment = fake_ffmpeg(tmp_path / "bin", script)
    (tmp_path / "a.m4a").write_bytes(b"\0\0\0\x20ftypM4A " * 100)
    code = "import sys; from gru_audio.signal.audio_file.reading import read_audio; read_audio(sys.argv[1])"
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "a.m4a")], env=environment) as process:
        give_up = time.monotonic() + 120
        while not (marker.exists() and marker.read_text()) and time.monotonic() < give_up:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert is_gone(int(marker.read_text()))


def is_gone(pid: int) -> bool:
    """Whether a process has ended, or does so soon."""
    give_up = time.monotonic() + 60
    while time.monotonic() < give_up:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


@needs_ffmpeg
def test_ffmpeg_is_asked_where_libsndfile_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.mp3").write_bytes(written(tmp_path, ".mp3", tone(4)))
    monkeypatch.setattr(decoding, "blocks_of", lambda path, file: iter([np.zeros((RATE, 1), np.float32)]))
    audio, _ = read_audio(tmp_path / "a.mp3")
    assert audio.size == pytest.approx(4 * RATE, abs=2_400)
    assert rms_dbfs(audio) == pytest.approx(rms_dbfs(tone(4)), abs=0.5)
    with open_audio(tmp_path / "a.mp3") as opened, pytest.raises(AudioError, match=r"reads 1\.00 of 3\.9"):
        list(opened.blocks)


def test_titles_between_frames_are_no_end_but_junk_is_told(tmp_path: Path) -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal(4 * RATE).astype(np.float32)
    whole = written(tmp_path, ".mp3", noise)
    middle = len(whole) // 2
    for title in (b"TAG" + bytes(125), b"APETAGEX" + bytes(4) + b"\x20\0\0\0" + bytes(48)):
        (tmp_path / "a.mp3").write_bytes(whole[:middle] + title + whole[middle:])
        assert read_audio(tmp_path / "a.mp3")[0].size == pytest.approx(noise.size, abs=2_400)
    (tmp_path / "b.mp3").write_bytes(whole[:middle] + 3_000 * b"\x55" + whole[middle:])
    assert "truncated or damaged" in refusal(tmp_path / "b.mp3")


@pytest.mark.parametrize(("version", "is_lent"), [("1.2.0", False), ("1.2.2", True), ("1.10.0", True)])
def test_an_old_libsndfile_is_lent_no_descriptor(
    version: str, is_lent: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would close it where it cannot read the file."""
    soundfile.write(tmp_path / "a.wav", tone(0.1), RATE)
    given, opened = list[object](), soundfile.SoundFile

    def watched(file: object, **options: Any) -> soundfile.SoundFile:
        given.append(file)
        return opened(file, **options)

    monkeypatch.setattr(soundfile, "__libsndfile_version__", version)
    monkeypatch.setattr(soundfile, "SoundFile", watched)
    audio, rate = read_audio(tmp_path / "a.wav")
    assert [isinstance(file, int) for file in given] == [is_lent]
    assert (audio.size, rate) == (round(0.1 * RATE), RATE)


# Files that libsndfile or ffmpeg reads


def test_channels_become_their_mean(tmp_path: Path) -> None:
    left, right = tone(0.1, 200), tone(0.1, 330)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], axis=1), RATE, subtype="FLOAT")
    np.testing.assert_allclose(read_audio(tmp_path / "a.wav")[0], (left + right) / 2, atol=1e-7)


def unusable_files(folder: Path) -> dict[Path, str]:
    """Files that must be refused, each with what the error must say."""
    soundfile.write(folder / "whole.flac", tone(2), RATE)
    soundfile.write(folder / "whole.wav", tone(2), RATE)
    for name in ("whole.flac", "whole.wav"):
        data = (folder / name).read_bytes()
        (folder / name.replace("whole", "cut")).write_bytes(data[: len(data) // 2])
    (folder / "text.wav").write_text("these are words\n")
    (folder / "empty.wav").touch()
    (folder / "folder.wav").mkdir()
    for value in ("nan", "inf"):
        samples = np.array([0, float(value), 0], np.float32)
        soundfile.write(folder / f"{value}.wav", samples, RATE, subtype="FLOAT")
    return {
        folder / "missing.wav": "No such file",
        folder / "folder.wav": "not a file",
        folder / "empty.wav": "empty",
        folder / "text.wav": "libsndfile cannot read it",
        folder / "cut.flac": "truncated or damaged",
        folder / "cut.wav": "truncated: 31978 of 64000 bytes",
        folder / "nan.wav": "NaN or infinite",
        folder / "inf.wav": "NaN or infinite",
    }


def test_bad_files_are_refused_in_one_line_that_names_them(tmp_path: Path) -> None:
    for path, reason in unusable_files(tmp_path).items():
        with pytest.raises(AudioError, match=reason) as caught:
            read_audio(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)


@needs_ffmpeg
@pytest.mark.parametrize("container", ["wav", "au"])
def test_a_streamed_header_without_a_length_is_not_truncation(tmp_path: Path, container: str) -> None:
    soundfile.write(tmp_path / "a.flac", tone(1), RATE)
    data = streamed(tmp_path / "a.flac", container)
    assert b"\xff\xff\xff\xff" in data[:100]
    (tmp_path / f"b.{container}").write_bytes(data)
    assert read_audio(tmp_path / f"b.{container}")[0].size == RATE


@needs_ffmpeg
@pytest.mark.parametrize("channels", [1, 2])
def test_a_streamed_flac_is_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, channels: int
) -> None:
    monkeypatch.setattr(decoding, "BLOCK_VALUES", 7_000)
    noise = 0.1 * np.random.default_rng(0).standard_normal(RATE)
    soundfile.write(tmp_path / "a.wav", noise, RATE)
    data = streamed(tmp_path / "a.wav", "flac", "-ac", str(channels))
    (tmp_path / "b.flac").write_bytes(data)
    assert soundfile.info(tmp_path / "b.flac").frames == 2**63 - 1
    audio, rate = read_audio(tmp_path / "b.flac")
    assert rate == RATE
    if channels == 1:  # ffmpeg's upmix lowers the level
        np.testing.assert_array_equal(to_int16(audio), to_int16(read_audio(tmp_path / "a.wav")[0]))
    assert audio.size == RATE
    (tmp_path / "c.flac").write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(AudioError, match=r"c\.flac: truncated or damaged"):
        read_audio(tmp_path / "c.flac")


def test_an_encoding_is_known_whatever_the_name(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.wav")
    soundfile.write(tmp_path / "a.wav", np.zeros((10, 2)), RATE)
    (tmp_path / "a.wav").rename(path)
    assert read_encoding(path) == Encoding("WAV PCM_16", 2)
    (tmp_path / "a.m4a").write_bytes(b"\1not really" * 100)
    assert read_encoding(tmp_path / "a.m4a") is None


@needs_ffmpeg
def test_what_libsndfile_cannot_open_goes_through_ffmpeg(tmp_path: Path) -> None:
    audio = tone(1)
    soundfile.write(tmp_path / "a.wav", audio, RATE)
    for name in ("a.m4a", "a.g722", "-odd: name%d.m4a"):
        ffmpeg("-i", tmp_path / "a.wav", f"file:{tmp_path / name}")
        read, rate = read_audio(tmp_path / name)
        assert rate == RATE
        assert abs(read.size - audio.size) < 2_100  # AAC comes in blocks of 1024
        assert abs(rms_dbfs(read) - rms_dbfs(audio)) < 1


@needs_ffmpeg
def test_input_format_decides_where_the_file_does_not_say(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(1), RATE)
    ffmpeg("-i", tmp_path / "a.wav", tmp_path / "a.g722")
    (tmp_path / "a.g722").rename(tmp_path / "a.bin")
    audio, rate = read_audio(tmp_path / "a.bin", input_format="g722")
    assert (audio.size, rate) == (RATE, RATE)
    with pytest.raises(
        AudioError, match=r"a\.bin: 'nonsense' is not a format that can be read; did you mean"
    ):
        read_audio(tmp_path / "a.bin", input_format="nonsense")


@needs_ffmpeg
def test_an_mp3_of_unstated_length_is_read_to_its_end(tmp_path: Path) -> None:
    """libsndfile alone reads only part of this file and says nothing."""
    noise = 0.1 * np.random.default_rng(0).standard_normal(8 * RATE)
    quiet_start = np.where(np.arange(noise.size) < RATE, 0.01 * noise, noise)
    soundfile.write(tmp_path / "a.wav", quiet_start, RATE)
    try:
        ffmpeg("-i", tmp_path / "a.wav", "-q:a", "5", "-write_xing", "0", tmp_path / "a.mp3")
    except subprocess.CalledProcessError:
        pytest.skip("this ffmpeg cannot write MP3")
    assert soundfile.info(tmp_path / "a.mp3").frames != pytest.approx(noise.size, rel=0.02)
    assert read_audio(tmp_path / "a.mp3")[0].size == pytest.approx(noise.size, rel=0.02)


def test_without_ffmpeg_the_error_says_how_to_mend_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.m4a").write_bytes(b"\1not really" * 100)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AudioError, match="ffmpeg is not on PATH; install ffmpeg or convert to WAV"):
        read_audio(tmp_path / "a.m4a")
    with pytest.raises(AudioError, match="'g722', and ffmpeg is not on PATH"):
        read_audio(tmp_path / "a.m4a", input_format="g722")


# What libmpg123 says


@pytest.fixture
def noisy_mp3(tmp_path: Path) -> Path:
    """One of which libmpg123 prints notes, and which it reads no further."""
    rng = np.random.default_rng(1)
    soundfile.write(tmp_path / "a.mp3", 0.1 * rng.standard_normal(32_000), 16_000, format="MP3")
    whole = (tmp_path / "a.mp3").read_bytes()
    (tmp_path / "a.mp3").write_bytes(whole[:3_000] + rng.bytes(3_000) + whole[3_000:])
    return tmp_path / "a.mp3"


def test_notes_of_libmpg123_stay_off_the_screen(
    noisy_mp3: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with soundfile.SoundFile(noisy_mp3) as file, contextlib.suppress(soundfile.LibsndfileError):
        file.read()
    assert "mpg123" in capfd.readouterr().err, "else there is nothing to keep off"
    (tmp_path / "b.mp3").write_bytes(b"\xff\xfb\x90\x00" + np.random.default_rng(0).bytes(30_000))
    for path in (noisy_mp3, tmp_path / "b.mp3"):
        with contextlib.suppress(AudioError):
            read_audio(path)
        with contextlib.suppress(AudioError):
            read_encoding(path)
    assert capfd.readouterr().err == ""


def test_what_others_write_meanwhile_is_handed_on(capfd: pytest.CaptureFixture[str]) -> None:
    with without_mpg123_notes():
        os.write(2, b"before\n\nNote: Trying to resync...\nfrom another thread\n\n")
        os.write(2, b"[src/libmpg123/layer3.c:do_layer3():1] error: dequantization failed!\nafter, unended")
    os.write(2, b"\nthen\n")
    assert capfd.readouterr().err == "before\nfrom another thread\nafter, unended\nthen\n"


def test_threads_take_turns_and_stderr_is_as_it_was(capfd: pytest.CaptureFixture[str]) -> None:
    def write(number: int) -> None:
        with without_mpg123_notes():
            os.write(2, b"Note: of a file\n")
            os.write(2, f"line {number}\n".encode())

    before = os.fstat(2)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(20)))
    assert os.path.samestat(before, os.fstat(2))
    assert sorted(capfd.readouterr().err.split("\n")) == sorted([*(f"line {n}" for n in range(20)), ""])


def test_without_a_stderr_files_are_read(noisy_mp3: Path) -> None:
    script = (
        "import sys\nfrom pathlib import Path\n"
        "from gru_audio.signal.audio_file.reading import read_encoding\n"
        "print(read_encoding(Path(sys.argv[1])).name)"
    )
    command = ["sh", "-c", 'exec "$0" "$@" 2>&-', sys.executable, "-c", script, str(noisy_mp3)]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    assert said.stdout.startswith(b"MP3")
