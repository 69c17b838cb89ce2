"""Audio in and out of files, and its level: read, write, resample, loudness, trimming.

Audio is mono throughout, float32 with full scale at 1. libsndfile reads what it can; the rest goes
through ffmpeg where that is on PATH.
"""

import io
import math
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gru_audio.errors import AudioError, OutputError
from gru_audio.files import atomic_path
from gru_audio.signal.loudness import BLOCK_S, integrated_loudness

# fmt: off
AUDIO_SUFFIXES = frozenset({
    ".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".aifc", ".au", ".snd",
    ".caf", ".w64", ".rf64", ".sph", ".nist", ".voc",  # to here libsndfile; what follows is ffmpeg's
    ".m4a", ".m4b", ".aac", ".wma", ".g722", ".gsm", ".mp4", ".mkv", ".mka", ".mov", ".webm", ".weba",
    ".amr", ".3gp", ".ac3", ".ape", ".wv", ".tta", ".mp2",
})
# fmt: on
"""Suffixes, in lower case, of the files that are taken for audio when a folder is searched."""

FULL_SCALE = 32_767 / 32_768
"""Magnitude from which a sample counts as clipped: the largest that 16 bits hold on both sides."""

_WRITERS = {".wav": "WAV", ".flac": "FLAC"}
_INT16_SCALE = 32_768.0
_LOUDNESS_PEAK = 10 ** (-1 / 20)  # -1 dBFS
_SMALLEST_POWER = 1e-10  # -100 dB: all that is under it is as loud
# Writers to a pipe do not know the length and put one of these or more into the header.
_STREAMED_BYTES = 0x7FFF_0000
_UNSTATED_FRAMES = (1 << 63) - 1  # what libsndfile says of a FLAC that was written to a pipe
_BLOCK_FRAMES = 1 << 18
_SHORT_DATA = re.compile(r"^\s*(?:data|SSND)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE)


@dataclass(frozen=True)
class Encoding:
    """How a file holds its audio.

    Attributes:
        name: container and sample type as libsndfile calls them, such as "WAV PCM_16".
        n_channels: its channels.
    """

    name: str
    n_channels: int


def read_audio(path: Path, *, input_format: str | None = None) -> tuple[NDArray[np.float32], int]:
    """Read a file as mono audio, the mean of its channels.

    Args:
        path: the file; what libsndfile cannot open is decoded by ffmpeg.
        input_format: ffmpeg's name of the format, for files that do not say it themselves (`"g722"`);
            ffmpeg then reads the file in any case.

    Returns:
        The audio (n_samples,), full scale at 1, and its sample rate in Hz. A file without samples gives
        an empty array.

    Raises:
        AudioError: no such file, not audio, truncated or damaged, samples that are not finite, or
            ffmpeg is needed and missing.
    """
    path = Path(path)
    _require_readable(path)
    if input_format is not None:
        reason = f"it is to be read as '{input_format}'"
        samples, sample_rate_hz = _read_with_ffmpeg(path, reason, ["-f", input_format])
    elif _is_mp3_of_unstated_length(path):
        samples, sample_rate_hz = _read_with_ffmpeg(path, "its MP3 stream does not state its length")
    else:
        samples, sample_rate_hz = _read_with_libsndfile(path)
    if not np.isfinite(samples).all():
        raise AudioError(f"{path}: has samples that are NaN or infinite; export it again from its source")
    audio = samples.mean(axis=1, dtype=np.float32) if samples.shape[1] > 1 else samples[:, 0]
    return np.ascontiguousarray(audio), sample_rate_hz


def read_encoding(path: Path) -> Encoding | None:
    """How a file holds its audio; None where only ffmpeg reads it."""
    import soundfile

    try:
        with _open(path) as file:
            return Encoding(f"{file.format} {file.subtype}", int(file.channels))
    except soundfile.LibsndfileError:
        return None


def check_audio(audio: ArrayLike) -> NDArray[np.float32]:
    """Audio that a caller gave, as float32.

    Args:
        audio: (n_samples,), real floats with full scale at 1, or int16.

    Raises:
        AudioError: another shape or type, or samples that are not finite.
    """
    given = np.asarray(audio)
    if given.ndim != 1:
        raise AudioError(
            f"audio of shape {given.shape}: one dimension (n_samples,) is needed; take one channel or the mean"
        )
    if given.dtype == np.int16:
        return from_int16(given)
    if not np.issubdtype(given.dtype, np.floating):
        raise AudioError(f"audio of type {given.dtype}: give floats with full scale at 1, or int16")
    with np.errstate(over="ignore"):  # a float64 too large for float32 is caught as infinite below
        samples = np.ascontiguousarray(given, dtype=np.float32)
    if not np.isfinite(samples).all():
        raise AudioError("audio has samples that are NaN or infinite; mend them before the call")
    return samples


def resample(audio: NDArray[np.float32], from_hz: int, to_hz: int) -> NDArray[np.float32]:
    """Bring audio (n_samples,) to another sample rate with soxr at its very high quality."""
    if from_hz == to_hz or not audio.size:
        return audio
    import soxr

    resampled: NDArray[np.float32] = soxr.resample(audio, from_hz, to_hz, quality="VHQ")
    return resampled


def write_audio(path: Path, audio: NDArray[np.float32], sample_rate_hz: int) -> int:
    """Write audio (n_samples,) as 16-bit WAV or FLAC, atomically.

    Args:
        path: its suffix, .wav or .flac, says the format.
        audio: (n_samples,), full scale at 1.
        sample_rate_hz: the audio's rate.

    Returns:
        How many samples were over full scale and were clipped.

    Raises:
        OutputError: another suffix, or the file cannot be written.
    """
    path = Path(path)
    container = _WRITERS.get(path.suffix.lower())
    if container is None:
        raise OutputError(f"{path}: suffix '{path.suffix}' is not written; use {' or '.join(_WRITERS)}")
    if container == "FLAC" and not audio.size:
        raise OutputError(f"{path}: FLAC cannot hold 0 samples; use .wav")
    # Encoded in memory, because libsndfile reports a full disk as an error without a reason.
    encoded = encode_audio(audio, sample_rate_hz, container)
    with atomic_path(path) as temporary:
        temporary.write_bytes(encoded)
    return int(np.count_nonzero(np.abs(audio) > 1.0))


def encode_audio(audio: NDArray[np.float32], sample_rate_hz: int, container: str) -> bytes:
    """Audio (n_samples,) as the contents of a 16-bit file, clipped at full scale; `container` is "WAV" or "FLAC"."""
    import soundfile

    encoded = io.BytesIO()
    soundfile.write(encoded, to_int16(audio), sample_rate_hz, format=container, subtype="PCM_16")
    return encoded.getvalue()


def to_int16(audio: NDArray[np.float32]) -> NDArray[np.int16]:
    """Audio (n_samples,) as 16-bit PCM, clipped at full scale; the inverse of reading 16-bit files."""
    pcm: NDArray[np.int16] = np.clip(np.rint(audio * _INT16_SCALE), -32_768, 32_767).astype(np.int16)
    return pcm


def from_int16(pcm: NDArray[np.int16]) -> NDArray[np.float32]:
    """16-bit PCM (n_samples,) as audio; exact."""
    audio: NDArray[np.float32] = pcm.astype(np.float32) * np.float32(1 / _INT16_SCALE)
    return audio


def dbfs(value: float) -> float:
    """A magnitude in decibels relative to full scale; -inf for 0."""
    return 20 * math.log10(value) if value > 0 else -math.inf


def finite(value: float) -> float | None:
    """A figure that JSON can hold: None for the level of silence and whatever else is not finite."""
    return float(value) if math.isfinite(value) else None


def peak_dbfs(audio: NDArray[np.float32]) -> float:
    """Level of the largest sample of audio (n_samples,); -inf for silence."""
    return dbfs(float(np.abs(audio).max(initial=0.0)))


def rms_dbfs(audio: NDArray[np.float32]) -> float:
    """Root-mean-square level of audio (n_samples,); -inf for silence."""
    return dbfs(float(np.sqrt(np.mean(np.square(audio, dtype=np.float64))))) if audio.size else -math.inf


def normalise_loudness(
    audio: NDArray[np.float32], sample_rate_hz: int, target_lufs: float
) -> NDArray[np.float32]:
    """Bring audio (n_samples,) to an integrated loudness by one gain.

    The gain is lowered where the peak would pass -1 dBFS, so nothing clips. Silence stays as it is. A
    clip shorter than the measure's block of 0.4 s is measured as if it went on repeating.

    Source: ITU-R BS.1770-4.
    """
    peak = float(np.abs(audio).max(initial=0.0))
    if peak == 0:
        return audio
    block_samples = math.ceil(BLOCK_S * sample_rate_hz) + 1
    measured = np.resize(audio, block_samples) if audio.size < block_samples else audio
    loudness_lufs = integrated_loudness(measured, sample_rate_hz)
    if not math.isfinite(loudness_lufs):
        return audio  # below the measure's own gate of -70 LUFS: silence to the ear
    gain = min(10 ** ((target_lufs - loudness_lufs) / 20), _LOUDNESS_PEAK / peak)
    scaled: NDArray[np.float32] = audio * np.float32(gain)
    return scaled


def trim_silence(
    audio: NDArray[np.float32], sample_rate_hz: int, below_peak_db: float, margin_s: float
) -> NDArray[np.float32]:
    """Cut leading and trailing silence.

    Args:
        audio: (n_samples,).
        sample_rate_hz: its rate.
        below_peak_db: frames (32 ms) this far below the loudest frame are silence.
        margin_s: seconds of the silence that are kept at each end.

    Returns:
        The part of `audio` that stays; all of it where it is silent throughout.
    """
    if not audio.any():
        return audio
    frame = 1 << round(math.log2(0.032 * sample_rate_hz))
    hop = frame // 4
    total = np.concatenate([[0.0], np.cumsum(np.pad(audio, frame // 2).astype(np.float64) ** 2)])
    powers = (total[frame::hop] - total[:-frame:hop]) / frame  # of frames around each hop's beginning
    powers = np.maximum(powers, _SMALLEST_POWER)
    loud = np.flatnonzero(powers > powers.max() * 10 ** (-below_peak_db / 10))
    first, last = loud[0] * hop, (loud[-1] + 1) * hop
    margin = round(margin_s * sample_rate_hz)
    return audio[max(0, int(first) - margin) : int(last) + margin]


def _require_readable(path: Path) -> None:
    try:
        size = path.stat().st_size
        if path.is_file():
            path.open("rb").close()
    except OSError as error:
        raise AudioError(f"{path}: {error.strerror or error}; check the path") from error
    if not path.is_file():
        raise AudioError(f"{path}: not a file; give an audio file")
    if size == 0:
        raise AudioError(f"{path}: the file is empty (0 bytes); replace it")


def _open(path: Path) -> Any:
    """The file, opened by libsndfile, whatever bytes its name has.

    Raises:
        LibsndfileError: not a format that libsndfile knows.
    """
    import soundfile

    return soundfile.SoundFile(os.fsencode(path))  # as str it refuses names that are not UTF-8


def _read_with_libsndfile(path: Path) -> tuple[NDArray[np.float32], int]:
    """Samples (n_samples, n_channels) and the rate, from ffmpeg where libsndfile knows no such format."""
    import soundfile

    try:
        file = _open(path)
    except soundfile.LibsndfileError as error:
        reason = _one_line(error.error_string)
        return _read_with_ffmpeg(path, f"libsndfile cannot read it ({reason})")
    with file:
        declared = int(file.frames)
        samples = _read_samples(path, file)
        if declared != _UNSTATED_FRAMES:
            _require_whole(path, file, declared, len(samples))
        return samples, int(file.samplerate)


def _read_samples(path: Path, file: Any) -> NDArray[np.float32]:
    """All samples (n_samples, n_channels) of an open file.

    Raises:
        AudioError: damaged, or it states more samples than memory holds.
    """
    import soundfile

    try:
        if file.frames == _UNSTATED_FRAMES:
            return _read_to_end(file)
        samples: NDArray[np.float32] = file.read(dtype="float32", always_2d=True)
        return samples
    except soundfile.LibsndfileError as error:
        reason = _one_line(error.error_string)
        raise AudioError(f"{path}: truncated or damaged ({reason}); replace it") from error
    except (MemoryError, ValueError) as error:  # numpy's word for an array past all bounds is ValueError
        raise AudioError(
            f"{path}: states {file.frames} samples, more than memory holds; replace it, or cut it in pieces"
        ) from error


def _read_to_end(file: Any) -> NDArray[np.float32]:
    """Samples (n_samples, n_channels) of a file that does not state how many it has."""
    # After each read soundfile seeks to where that ended, which at an end that is not stated fails.
    file.seekable = lambda: False
    blocks = [np.zeros((0, file.channels), np.float32)]
    while len(block := file.read(_BLOCK_FRAMES, dtype="float32", always_2d=True)):
        blocks.append(block)
    return np.concatenate(blocks)


def _require_whole(path: Path, file: Any, declared: int, read: int) -> None:
    if read < declared:
        raise AudioError(f"{path}: truncated: {read} of {declared} samples are there; replace it")
    # libsndfile silently corrects a PCM header that promises more than the file holds, and logs it.
    short = _SHORT_DATA.search(file.extra_info)
    if short and int(short[2]) < int(short[1]) < _STREAMED_BYTES:
        raise AudioError(f"{path}: truncated: {short[2]} of {short[1]} bytes are there; replace it")


def _is_mp3_of_unstated_length(path: Path) -> bool:
    """Whether the file is an MP3 without the Xing, Info or VBRI header that holds its length.

    libsndfile then guesses the length from the first frame's bit rate and, where that varies, stops
    reading in the middle without an error.
    """
    if path.suffix.lower() != ".mp3":
        return False
    with path.open("rb") as file:
        head = file.read(10)
        id3 = head[:3] == b"ID3" and len(head) == 10
        # An ID3v2 tag states its size in four bytes of seven bits each.
        file.seek(10 + sum(byte << 7 * place for place, byte in enumerate(head[:5:-1])) if id3 else 0)
        first_frame = file.read(512)
    return first_frame[:1] == b"\xff" and not any(mark in first_frame for mark in (b"Xing", b"Info", b"VBRI"))


def _read_with_ffmpeg(
    path: Path, because: str, options: Sequence[str] = ()
) -> tuple[NDArray[np.float32], int]:
    """Samples (n_samples, n_channels) and the rate of the file's first audio stream."""
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        raise AudioError(f"{path}: {because}, and ffmpeg is not on PATH; install ffmpeg or convert to WAV")
    import soundfile

    # "file:" and the whitelist keep names such as "http://..." and playlists from opening anything else.
    # AU states an unknown length as its format says; a piped WAV header holds a wrong one.
    command = [
        *(ffmpeg, "-v", "error", "-nostdin", "-xerror", "-protocol_whitelist", "file,pipe"),
        *options,
        *("-i", f"file:{path}", "-map", "0:a:0", "-c:a", "pcm_f32be", "-f", "au", "-"),
    ]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode or not done.stdout:
        lines = done.stderr.decode(errors="replace").replace(f"file:{path}: ", "").strip().splitlines()
        reason = _one_line(lines[-1]) if lines else f"exit code {done.returncode}"
        raise AudioError(f"{path}: {because}, and ffmpeg fails ({reason}); is it whole, and audio?")
    with soundfile.SoundFile(io.BytesIO(done.stdout)) as file:
        return _read_samples(path, file), int(file.samplerate)


def _one_line(text: str) -> str:
    return " ".join(text.split()).rstrip(".")
