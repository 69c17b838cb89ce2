"""The C interface gru_audio.h through ctypes, as plainly as a C program would use it."""

import ctypes
import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gru_audio.native import library

Floats = NDArray[np.float32]

OK, NO_VOICE, OTHER_VERSION, CUT, DAMAGED, BAD_NUMBER = range(6)
UNALIGNED, BAD_SETTING, BAD_INPUT, ENDED, NO_STATE, OTHER_VOICE, N_STATUSES = range(6, 13)
HEADER = struct.Struct("<8sIIQ")
WHOLE_NUMBERS, REAL_NUMBERS = struct.Struct("<28q"), struct.Struct("<27d")  # of C's struct voice_numbers
FIRST_PLACE = HEADER.size + WHOLE_NUMBERS.size + REAL_NUMBERS.size
"""Where the places of a voice's arrays begin."""

Size, Pointer, Status = ctypes.c_size_t, ctypes.c_void_p, ctypes.c_int


class Settings(ctypes.Structure):
    _fields_ = (
        ("seed", ctypes.c_uint64),
        ("temperature", ctypes.c_double),
        ("tail_cut", ctypes.c_double),
        ("corrections", ctypes.c_int64),
    )


class Facts(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("sample_rate_hz", "hop_samples", "n_mels")),
        *((name, ctypes.c_int64) for name in ("context_frames", "correction_frames")),
        ("usual", Settings),
    )


def function(name: str, arguments: list[Any], result: Any = Status) -> Any:
    return library.function(f"gru_audio_{name}", arguments, result)


error_text = function("error_text", [Status], ctypes.c_char_p)
voice_size = function("voice_size", [], Size)
open_voice = function("open", [Pointer, Size, Pointer, Pointer])
facts_of = function("facts_of", [Pointer], ctypes.POINTER(Facts))
stream_size = function("stream_size", [Pointer], Size)
start = function("start", [Pointer, Pointer, Pointer, Pointer])
push = function("push", [Pointer, Pointer, Size, Pointer, Pointer])
finish = function("finish", [Pointer, Pointer, Pointer])
saved_size = function("saved_size", [Pointer], Size)
save = function("save", [Pointer, Pointer])
restore = function("restore", [Pointer, Pointer, Size, Pointer, Pointer])
mel_frames = function("mel_frames", [Pointer, Size], Size)
mel_size = function("mel_size", [Pointer, Size], Size)
mel_of = function("mel", [Pointer, Pointer, Size, Pointer, Pointer])


class RefusedError(Exception):
    """A status that is not OK, and its text."""

    def __init__(self, status: int) -> None:
        self.status, self.text = status, error_text(status).decode()
        super().__init__(self.text)


def check(status: int) -> None:
    if status != OK:
        raise RefusedError(status)


def memory(n_bytes: int) -> NDArray[np.uint8]:
    """As malloc gives it: what is in it is anything, here 0xA5."""
    array = library.aligned(n_bytes, np.uint8)
    array[...] = 0xA5
    return array


def copied(data: bytes) -> NDArray[np.uint8]:
    array = memory(len(data))
    array[...] = np.frombuffer(data, np.uint8)
    return array


def summed(packed: bytes | bytearray) -> bytes:
    """A voice's file with the size and the checksum that fit it."""
    magic, version, _, _ = HEADER.unpack_from(packed)
    rest = bytes(packed[HEADER.size :])
    return HEADER.pack(magic, version, zlib.crc32(rest), len(packed)) + rest


class CVoice:
    """An opened voice."""

    def __init__(self, packed: bytes) -> None:
        self._file, self._memory, pointer = copied(packed), memory(voice_size()), Pointer()
        check(
            open_voice(self._file.ctypes.data, len(packed), self._memory.ctypes.data, ctypes.byref(pointer))
        )
        self.pointer = pointer
        self.facts = facts_of(pointer).contents

    def start(self, **settings: float) -> "CStream":
        given = Settings.from_buffer_copy(self.facts.usual)
        for name, value in settings.items():
            setattr(given, name, value)
        room, pointer = memory(stream_size(self.pointer)), Pointer()
        check(start(self.pointer, ctypes.byref(given), room.ctypes.data, ctypes.byref(pointer)))
        return CStream(self, room, pointer)

    def restore(self, saved: bytes) -> "CStream":
        given, room, pointer = copied(saved), memory(stream_size(self.pointer)), Pointer()
        address = given.ctypes.data
        check(restore(self.pointer, address, len(saved), room.ctypes.data, ctypes.byref(pointer)))
        return CStream(self, room, pointer)

    def synthesize(self, mel: Floats, **settings: float) -> Floats:
        stream = self.start(**settings)
        return np.concatenate([stream.push(mel), stream.finish()])

    def mel(self, audio: Floats) -> Floats:
        mel = np.empty((mel_frames(self.pointer, audio.size), self.facts.n_mels), np.float32)
        room, given = memory(mel_size(self.pointer, audio.size)), np.ascontiguousarray(audio)
        check(mel_of(self.pointer, given.ctypes.data, audio.size, room.ctypes.data, mel.ctypes.data))
        return mel


@dataclass
class CStream:
    """A stream; it holds on to its memory and its voice."""

    voice: CVoice
    room: NDArray[np.uint8]
    pointer: ctypes.c_void_p

    def push(self, mel: Floats) -> Floats:
        mel = np.ascontiguousarray(mel, np.float32)
        audio, n = np.empty(len(mel) * self.voice.facts.hop_samples, np.float32), Size()
        check(push(self.pointer, mel.ctypes.data, len(mel), audio.ctypes.data, ctypes.byref(n)))
        return audio[: n.value]

    def finish(self) -> Floats:
        facts, n = self.voice.facts, Size()
        n_frames = facts.context_frames + facts.correction_frames
        audio = np.empty(n_frames * facts.hop_samples, np.float32)
        check(finish(self.pointer, audio.ctypes.data, ctypes.byref(n)))
        return audio[: n.value]

    def save(self) -> bytes:
        saved = memory(saved_size(self.voice.pointer))
        check(save(self.pointer, saved.ctypes.data))
        return saved.tobytes()
