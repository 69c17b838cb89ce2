"""Audio through ffmpeg, as a program that is not trusted: it may read one file, and not for long.

It is given the open file, not its name, and the formats and protocols that it may use, so that a playlist or a
reference to another file opens nothing. It ends with its parent, whatever ends that.
"""

import contextlib
import difflib
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread, Timer

import numpy as np

from gru_audio.arrays import FloatArray
from gru_audio.errors import AudioError
from gru_audio.signal.audio_file.source import FilePart, OpenFile

# fmt: off
FORMATS = (
    "aac", "ac3", "aiff", "amr", "ape", "asf", "au", "avi", "caf", "dsf", "dts", "eac3", "flac", "flv", "iff", "loas",
    "matroska", "mov", "mp3", "mpc", "mpc8", "mpeg", "mpegts", "nistsphere", "oma", "ogg", "rm", "shn", "tak", "truehd",
    "tta", "voc", "w64", "wav", "wv", "xwma",
)
"""What ffmpeg may take a file for, in its own names: one recording in one file, which says what it is."""

BARE_FORMATS = (
    "alaw", "amrnb", "amrwb", "codec2", "codec2raw", "g722", "g723_1", "g726", "g726le", "g729", "gsm", "ilbc", "mulaw",
    "s8", "u8", "s16le", "s16be", "u16le", "u16be", "s24le", "s24be", "u24le", "u24be", "s32le", "s32be", "u32le",
    "u32be", "f32le", "f32be", "f64le", "f64be",
)
"""What it may be told to take a file for, which does not say what it is."""
# fmt: on

_DIES_WITH_PARENT = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""
LEAST_LIMIT_S = 60.0
"""How long ffmpeg may take for the smallest file."""

_LIMIT_BYTES_A_SECOND = 50_000  # what the slowest codecs take on the slowest machines
_READ_BYTES = 1 << 20
_KEPT_LINES, _LONGEST_LINE = 200, 4_096
_CUT = re.compile(r"prematurely|partial file|truncat", re.IGNORECASE)
_DURATION = re.compile(r"\bDuration: (\d+):(\d+):(\d+\.\d+)")


@dataclass(frozen=True)
class Decoded:
    """What a decoder makes of a recording.

    Attributes:
        sample_rate_hz: of the audio.
        n_channels: of the audio.
        duration_s: as the file states it; None where it does not.
        blocks: the audio in pieces (n, n_channels), full scale 1; an AudioError at its end says that it is not all.
    """

    sample_rate_hz: int
    n_channels: int
    duration_s: float | None
    blocks: Iterator[FloatArray]


@contextlib.contextmanager
def decode_with_ffmpeg(
    source: OpenFile, part: FilePart, path: Path, because: str, input_format: str | None = None
) -> Iterator[Decoded]:
    """The first audio stream of a recording, as it comes.

    Args:
        source: the file.
        part: the recording in it.
        path: the file's name, for messages.
        because: why ffmpeg is needed, in words.
        input_format: ffmpeg's name of the format, for files that do not say it themselves.

    Raises:
        AudioError: no ffmpeg, or it cannot read this, in words or in time; or no such format.
    """
    known = (*FORMATS, *BARE_FORMATS)
    if input_format is not None and input_format not in known:
        near = difflib.get_close_matches(input_format, known, n=1, cutoff=0.4) or ["s16le"]
        raise AudioError(
            f"{path}: '{input_format}' is not a format that can be read; did you mean {near[0]}?"
        )
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        raise AudioError(f"{path}: {because}, and ffmpeg is not on PATH; install ffmpeg or convert to WAV")
    inherits = sys.platform != "win32"
    place = f"file:/dev/fd/{source.descriptor}" if inherits else f"file:{path}"
    if (part.start, part.end) != (0, source.size):
        place = f"subfile,,start,{part.start},end,{part.end},,:{place}"
    # AU states an unknown length as its format says; a piped WAV header holds a wrong one.
    command = [
        *(ffmpeg, "-hide_banner", "-nostats", "-v", "level+info", "-nostdin", "-xerror"),
        *("-protocol_whitelist", "file,subfile", "-format_whitelist", ",".join(known)),
        *(("-f", input_format) if input_format is not None else ()),
        *("-i", place, "-map", "0:a:0", "-c:a", "pcm_f32be", "-f", "au", "-"),
    ]
    if sys.executable and sys.platform == "linux":
        command = [sys.executable, "-I", "-S", "-c", _DIES_WITH_PARENT, str(os.getpid()), *command]

    def failure(line: str) -> AudioError:
        text = re.sub(r"\[[^]]*\] ?", "", line).replace(f"{place}: ", "")
        reason = " ".join(text.split()).rstrip(".")
        return AudioError(f"{path}: {because}, and ffmpeg fails ({reason}); is it whole, and audio?")

    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=[source.descriptor] if inherits else [],
        start_new_session=inherits,  # so that whatever it starts can be ended with it
    )
    with process:
        output = _Output(process, LEAST_LIMIT_S + (part.end - part.start) / _LIMIT_BYTES_A_SECOND, failure)
        try:
            yield output.decoded()
        finally:
            output.end()


class _Output:
    """What a running ffmpeg writes; it is ended when its time is over."""

    def __init__(
        self, process: "subprocess.Popen[bytes]", limit_s: float, failure: Callable[[str], AudioError]
    ) -> None:
        self._process, self._limit_s, self._failure = process, limit_s, failure
        self._late, self._lines, self._begun = False, list[str](), Event()
        self._watch, self._listener = Timer(limit_s, self._give_up), Thread(target=self._listen)
        for thread in (self._watch, self._listener):
            thread.daemon = True
            thread.start()

    def decoded(self) -> Decoded:
        """The audio, once its header has come."""
        header = self._take(24)
        magic, offset, rate_hz, n_channels = struct.unpack(">4sI8xII", header.ljust(24, b"\0"))
        if magic != b".snd" or not n_channels:
            self._require_success()
            raise self._failure("it gives no audio")
        self._take(offset - 24)
        self._begun.wait(1.0)  # what it says of the input is on its way since before the header
        return Decoded(rate_hz, n_channels, self._stated_s(), self._blocks(n_channels))

    def end(self) -> None:
        """End the process, whatever it does."""
        self._watch.cancel()
        self._kill()
        self._listener.join()

    def _give_up(self) -> None:
        self._late = True
        self._kill()

    def _kill(self) -> None:
        if self._process.poll() is not None:
            return
        if sys.platform != "win32":
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        else:
            self._process.kill()

    def _blocks(self, n_channels: int) -> Iterator[FloatArray]:
        frame_bytes = 4 * n_channels
        wanted = max(1, _READ_BYTES // frame_bytes) * frame_bytes
        while data := self._take(wanted):
            whole = len(data) // frame_bytes * frame_bytes
            yield np.frombuffer(data[:whole], ">f4").astype(np.float32).reshape(-1, n_channels)
        self._require_success()

    def _take(self, n_bytes: int) -> bytes:
        """So many bytes of its audio, fewer at the end."""
        assert self._process.stdout is not None
        return self._process.stdout.read(n_bytes)

    def _listen(self) -> None:
        """Keep what it says, but for the midst of very much."""
        assert self._process.stderr is not None
        while line := self._process.stderr.readline(_LONGEST_LINE):
            self._lines.append(line.decode(errors="replace"))
            del self._lines[_KEPT_LINES // 2 : -_KEPT_LINES // 2]
            if line.startswith(b"[info] Stream mapping:"):
                self._begun.set()
        self._begun.set()

    def _stated_s(self) -> float | None:
        """The duration of a file that holds audio alone and states how long it is."""
        lines = list(self._lines)
        text = "".join(lines)
        found = _DURATION.search(text)
        video = any(": Video:" in line and "(attached pic)" not in line for line in lines)
        if found is None or video or "Estimating duration" in text:
            return None
        return 3600 * int(found[1]) + 60 * int(found[2]) + float(found[3])

    def _require_success(self) -> None:
        """Refuse audio that is not all there is."""
        code = self._process.wait()
        self._listener.join()
        if self._late:
            raise self._failure(f"it was stopped after {self._limit_s:.0f} s")
        complaints = [line for line in self._lines if "[error]" in line or "[fatal]" in line]
        cut = [line for line in complaints if _CUT.search(line)]
        if code or cut:
            raise self._failure((cut or complaints or [f"exit code {code}"])[-1])
