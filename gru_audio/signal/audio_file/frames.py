"""Files of frames, pages and boxes: where one recording ends, and whether it is whole, without decoding it."""

import struct
from dataclasses import dataclass

from gru_audio.signal.audio_file.kinds import id3_bytes, mpeg_frame
from gru_audio.signal.audio_file.source import FilePart, OpenFile
from gru_audio.signal.bounds import allowed_loss_s

_FLAC_STARTS = (b"fLaC\x00\x00\x00\x22", b"fLaC\x80\x00\x00\x22")
_PAGE_BYTES = 27  # of an Ogg page's header, before its table of lengths
_LIVE_S = 2.0  # a first page that stands later than this was cut out of a longer stream
_SEGMENT = b"\x18\x53\x80\x67"
_ASF_HEADER = b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"
_TTA_START = b"TTA1\x01\x00"


def after_tags(source: OpenFile, place: int) -> int:
    """Where what follows begins: after titles that other programs put around audio, or zeros to the file's end."""
    while place < source.size:
        head = source.at(place, 32)
        if length := id3_bytes(head):
            place += length
        elif head[:3] == b"TAG" and source.size - place in (128, 355):
            place = source.size
        elif head[:8] == b"APETAGEX":
            place += 32 + int.from_bytes(head[12:16], "little")
        elif head[:11] == b"LYRICSBEGIN":
            place = min(source.find(b"LYRICS200", place) + 9, source.size)
        elif not head.strip(b"\0"):
            zeros = place
            while zeros < source.size and not (block := source.at(zeros, 1 << 16)).strip(b"\0"):
                zeros += len(block)
            return place if zeros < source.size else source.size
        else:
            break
    return min(place, source.size)


def mpeg_part(source: OpenFile, start: int) -> FilePart:
    """MPEG audio: frames one after the other, the first of them perhaps a tag that states how many there are."""
    first = mpeg_frame(source.at(start, 4))
    if first is None:
        return FilePart("MP3", start, source.size)
    stated, hidden = _stated_frames(source, start, first.tag_at)
    place = start + first.n_bytes if stated is not None else start
    n_frames = 0
    while place < source.size:
        frame = mpeg_frame(source.at(place, 4))
        if frame is not None and frame.sample_rate_hz != first.sample_rate_hz:
            break
        if frame is None:
            after = after_tags(source, place)
            if after > place and (after == source.size or id3_bytes(source.at(place, 10))):
                break
            if (place := _next_frame(source, place + 1)) == source.size:
                break
            continue
        if _has_tag(source, place, frame.tag_at) and n_frames:
            break
        if place + frame.n_bytes > source.size:
            break
        n_frames, place = n_frames + 1, place + frame.n_bytes
    frame_s = first.n_samples / first.sample_rate_hz
    fault = ""
    if stated and (stated - n_frames) * frame_s > allowed_loss_s(stated * frame_s):
        fault = f"{n_frames} of {stated} frames are there"
    duration_s = max(0.0, (n_frames - 2) * frame_s - hidden / first.sample_rate_hz)
    end = min(max(place, start + 1), source.size)
    return FilePart("MP3", start, end, duration_s=duration_s, fault=fault, unstated=stated is None)


def _stated_frames(source: OpenFile, start: int, tag_at: int) -> tuple[int | None, int]:
    """What a first frame's tag says: how many frames follow, and how many samples of them are not to be heard."""
    frame = source.at(start, tag_at + 160)
    if frame[36:40] == b"VBRI":
        return int.from_bytes(frame[50:54], "big"), 0
    tag = frame[tag_at:]
    if tag[:4] not in (b"Xing", b"Info"):
        return None, 0
    flags = int.from_bytes(tag[4:8], "big")
    gap = int.from_bytes(tag[141:144], "big") if flags & 15 == 15 else 0  # two numbers of 12 bits
    return int.from_bytes(tag[8:12], "big") if flags & 1 else 0, (gap >> 12) + (gap & 0xFFF)


def _has_tag(source: OpenFile, place: int, tag_at: int) -> bool:
    return source.at(place + tag_at, 4) in (b"Xing", b"Info") or source.at(place + 36, 4) == b"VBRI"


def _next_frame(source: OpenFile, place: int) -> int:
    """Where two frames stand one after the other next; the file's size where none do."""
    while (place := source.find(b"\xff", place)) < source.size:
        frame = mpeg_frame(source.at(place, 4))
        if frame is not None and mpeg_frame(source.at(place + frame.n_bytes, 4)) is not None:
            return place
        place += 1
    return source.size


def flac_part(source: OpenFile, start: int) -> FilePart:
    """A FLAC: it states its samples, and ends where another begins."""
    place = start + 4
    while (place := source.find(b"fLaC", place)) < source.size:
        if source.at(place, 8) in _FLAC_STARTS:
            break
        place += 4
    info = int.from_bytes(source.at(start + 18, 8), "big")  # rate 20 bits, channels 3, depth 5, samples 36
    rate_hz, n_samples = info >> 44, info & 0xF_FFFF_FFFF
    return FilePart("FLAC", start, place, duration_s=n_samples / rate_hz if rate_hz else None)


@dataclass
class _Timing:
    """How an Ogg stream's positions become seconds."""

    rate_hz: int = 0
    ahead: int = 0  # samples that are not to be heard
    first: int | None = None
    last: int = 0

    @property
    def duration_s(self) -> float | None:
        """From the first position, where the stream is whole at its beginning, to the last."""
        if not self.rate_hz or self.first is None or self.first > _LIVE_S * self.rate_hz:
            return None
        return max(0, self.last - self.ahead) / self.rate_hz


def ogg_part(source: OpenFile, start: int) -> FilePart:
    """An Ogg file: pages, numbered; another recording begins with its own first pages."""
    place, fault, numbers, began = start, "", dict[bytes, int](), False
    timings: dict[bytes, _Timing] = {}
    while place < source.size:
        head = source.at(place, _PAGE_BYTES + 255)
        if head[:4] != b"OggS":
            following = source.find(b"OggS", place)
            if following < source.size and after_tags(source, place) != following:
                fault = f"{following - place} bytes in it are no Ogg page"
            elif following == source.size and after_tags(source, place) < source.size:
                fault = "its last Ogg page is damaged"
            place = following
            continue
        if len(head) < _PAGE_BYTES or len(head) < _PAGE_BYTES + head[26]:
            fault, place = "its last Ogg page is not whole", source.size
            break
        serial, number = head[14:18], int.from_bytes(head[18:22], "little")
        body = place + _PAGE_BYTES + head[26]
        if head[5] & 2:
            if began:
                break
            timings[serial] = _timing(source.at(body, 64))
        else:
            began = True
            if serial in numbers and number != numbers[serial] + 1:
                fault = f"{abs(number - numbers[serial] - 1)} of its Ogg pages are missing"
        numbers[serial] = number
        after = body + sum(head[_PAGE_BYTES : _PAGE_BYTES + head[26]])
        if after > source.size:
            fault, place = "its last Ogg page is not whole", source.size
            break
        _advance(timings.get(serial), int.from_bytes(head[6:14], "little", signed=True))
        place = after
    duration_s = next((timing.duration_s for timing in timings.values() if timing.rate_hz), None)
    return FilePart("Ogg", start, max(place, start + 1), duration_s=duration_s, fault=fault)


def _timing(packet: bytes) -> _Timing:
    if packet[:7] == b"\x01vorbis":
        return _Timing(int.from_bytes(packet[12:16], "little"))
    if packet[:8] == b"OpusHead":
        return _Timing(48_000, int.from_bytes(packet[10:12], "little"))
    if packet[:8] == b"Speex   ":
        return _Timing(int.from_bytes(packet[36:40], "little"))
    if packet[:5] == b"\x7fFLAC":
        return _Timing(int.from_bytes(packet[27:30], "big") >> 4)
    return _Timing()


def _advance(timing: _Timing | None, position: int) -> None:
    if timing is not None and position > 0:
        timing.first = position if timing.first is None else timing.first
        timing.last = position


def mp4_part(source: OpenFile, start: int) -> FilePart:
    """An MP4 or MOV: boxes; another recording begins with its own `ftyp`."""
    place = start
    while len(head := source.at(place, 16)) >= 8:
        size, name = int.from_bytes(head[:4], "big"), head[4:8]
        if size == 1:
            size = int.from_bytes(head[8:16], "big")
        if (name == b"ftyp" and place > start) or (size != 0 and size < 8):
            break
        place = source.size if size == 0 else place + size
    return _of_boxes("MP4", source, start, place)


def matroska_part(source: OpenFile, start: int) -> FilePart:
    """A Matroska or WebM: a head and one segment, unless that is of unknown length."""
    place = start
    for name in (b"\x1a\x45\xdf\xa3", _SEGMENT):
        head = source.at(place, 12)
        length = 9 - (head[4] if len(head) > 4 else 0).bit_length()
        if head[:4] != name or length > 8:
            return FilePart("Matroska", start, source.size)
        size = int.from_bytes(head[4 : 4 + length], "big") & (1 << 7 * length) - 1
        if size == (1 << 7 * length) - 1:
            return FilePart("Matroska", start, source.size)
        place += 4 + length + size
    return _of_boxes("Matroska", source, start, place)


def asf_part(source: OpenFile, start: int) -> FilePart:
    """A WMA: objects; another recording begins with its own header."""
    place = start
    while len(head := source.at(place, 24)) == 24:
        (size,) = struct.unpack("<Q", head[16:])
        if (head[:8] == _ASF_HEADER and place > start) or size < 24:
            break
        place += size
    return _of_boxes("WMA", source, start, place)


def tta_part(source: OpenFile, start: int) -> FilePart:
    """A TTA: it ends where another begins."""
    return FilePart("TTA", start, source.find(_TTA_START, start + 1))


def _of_boxes(kind: str, source: OpenFile, start: int, stated_end: int) -> FilePart:
    end = min(max(stated_end, start + 1), source.size)
    return FilePart(kind, start, end, stated_end - start, end - start)
