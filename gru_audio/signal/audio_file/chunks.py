"""Files of plain samples behind a header: where the samples are, and whether they are as many as it states.

A header that was never brought up to date states 0 or a mark for "unknown"; the samples then go to the file's end.
One that states more than there is belongs to a file that was cut.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace

from gru_audio.signal.audio_file.kinds import HEAD_BYTES, kind_of
from gru_audio.signal.audio_file.source import FilePart, OpenFile

# Writers to a pipe do not know the length and put one of these or more into the header.
_STREAMED_BYTES = 0x7FFF_0000
_STREAMED_64 = 1 << 62
_PLAIN_TAGS = frozenset({1, 3, 0xFFFE})  # integers, floats, and what says more of itself
_W64_DATA = b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"


@dataclass(frozen=True)
class _Layout:
    """How chunks are laid out: name, size, body.

    Attributes:
        head: the name and the size, for struct.
        counts_head: whether the size counts these, too.
        step: chunks begin at multiples of it.
        data: the name of the samples' chunk.
    """

    head: str
    counts_head: bool
    step: int
    data: bytes

    @property
    def n_bytes(self) -> int:
        """Of the name and the size."""
        return struct.calcsize(self.head)

    @property
    def size_format(self) -> str:
        """The size alone, for struct."""
        return self.head[0] + self.head[-1]


_RIFF = _Layout("<4sI", False, 2, b"data")
_RIFX = _Layout(">4sI", False, 2, b"data")
_AIFF = _Layout(">4sI", False, 2, b"SSND")
_W64 = _Layout("<16sQ", True, 8, _W64_DATA)
_CAF = _Layout(">4sQ", False, 1, b"data")


@dataclass(frozen=True)
class _Chunk:
    """A chunk in a file: its name, where its body begins, and the size that is stated of that."""

    name: bytes
    body: int
    size: int


def wav_part(source: OpenFile, start: int) -> FilePart:
    """A WAV, or one with 64-bit sizes (RF64, BW64), whose `ds64` chunk holds the true ones."""
    layout = _RIFX if source.at(start, 4) == b"RIFX" else _RIFF
    wide: int | None = None
    fault = ""
    for chunk in _chunks(source, start + 12, start, layout):
        if chunk.name == b"ds64":
            wide = chunk.body
        if chunk.name == b"fmt ":
            fault = _contradiction(source.at(chunk.body, 16), layout.head[0])
        if chunk.name != layout.data:
            continue
        if wide is not None and chunk.size == 0xFFFF_FFFF:
            (stated,) = struct.unpack("<Q", source.at(wide + 8, 8).ljust(8, b"\0"))
            part = replace(_samples(source, start, layout, chunk.body, stated, _STREAMED_64), fault=fault)
            riff_size = _packed("<Q", part.end - start - 8)
            return _patched(part, "RF64", ((wide, riff_size), (wide + 8, _packed("<Q", part.present_bytes))))
        part = replace(_samples(source, start, layout, chunk.body, chunk.size, _STREAMED_BYTES), fault=fault)
        riff_size, size = (_packed(layout.size_format, n) for n in (part.end - start - 8, part.present_bytes))
        return _patched(part, "WAV", ((start + 4, riff_size), (chunk.body - 4, size)))
    return FilePart("WAV", start, source.size)


def _contradiction(fields: bytes, order: str) -> str:
    """What is wrong with the `fmt ` of plain samples whose bits and bytes do not fit: they would be read as noise."""
    if len(fields) < 16:
        return ""
    tag, n_channels, _, _, block_bytes, n_bits = struct.unpack(f"{order}HHIIHH", fields)
    if tag not in _PLAIN_TAGS or not n_channels or not block_bytes or not n_bits:
        return ""
    least = -(-n_bits // 8)
    most = 4 if n_bits > 16 else least  # 24 bits may lie in four bytes
    if n_channels * least <= block_bytes <= n_channels * max(least, most) and block_bytes % n_channels == 0:
        return ""
    return f"its header contradicts itself: {n_bits} bits a sample, but {block_bytes} bytes for {n_channels} channels"


def aiff_part(source: OpenFile, start: int) -> FilePart:
    """An AIFF or AIFC; it states its length in frames, too."""
    frames: list[tuple[int, bytes]] = []
    common: _Chunk | None = None
    for chunk in _chunks(source, start + 12, start, _AIFF):
        if chunk.name == b"COMM":
            common = chunk
        if chunk.name == b"SSND":
            part = _samples(source, start, _AIFF, chunk.body + 8, max(0, chunk.size - 8), _STREAMED_BYTES)
            if common is not None:
                n_channels, _, n_bits = struct.unpack(">HIH", source.at(common.body, 8).ljust(8, b"\0"))
                frame_bytes = max(1, n_channels * -(-n_bits // 8))
                frames = [(common.body + 2, _packed(">I", part.present_bytes // frame_bytes))]
            sizes = [
                (start + 4, _packed(">I", part.end - start - 8)),
                (chunk.body - 4, _packed(">I", part.present_bytes + 8)),
            ]
            return _patched(part, "AIFF", (*sizes, *frames))
    return FilePart("AIFF", start, source.size)


def w64_part(source: OpenFile, start: int) -> FilePart:
    """A Sony Wave64: chunks named by GUIDs, with 64-bit sizes."""
    for chunk in _chunks(source, start + 40, start, _W64):
        if chunk.name == _W64_DATA:
            part = _samples(source, start, _W64, chunk.body, chunk.size, _STREAMED_64)
            sizes = [
                (start + 16, _packed("<Q", part.end - start)),
                (chunk.body - 8, _packed("<Q", part.present_bytes + _W64.n_bytes)),
            ]
            return _patched(part, "W64", tuple(sizes))
    return FilePart("W64", start, source.size)


def caf_part(source: OpenFile, start: int) -> FilePart:
    """A Core Audio file; four bytes come before the samples."""
    for chunk in _chunks(source, start + 8, start, _CAF):
        if chunk.name == b"data":
            part = _samples(source, start, _CAF, chunk.body + 4, max(0, chunk.size - 4), _STREAMED_64)
            return _patched(part, "CAF", ((chunk.body - 8, _packed(">Q", part.present_bytes + 4)),))
    return FilePart("CAF", start, source.size)


def au_part(source: OpenFile, start: int) -> FilePart:
    """A Sun AU: a header that states where the samples begin and how many bytes they take."""
    order = ">" if source.at(start, 4) == b".snd" else "<"
    offset, stated = struct.unpack(f"{order}II", source.at(start + 4, 8).ljust(8, b"\0"))
    part = _samples(source, start, None, start + offset, stated, _STREAMED_BYTES)
    return _patched(part, "AU", ((start + 8, _packed(f"{order}I", part.present_bytes)),))


def nist_part(source: OpenFile, start: int) -> FilePart:
    """A NIST SPHERE: a header in text. Compressed ones are left to their reader."""
    head = source.at(start, 1024)
    lines = head.split(b"\n")
    fields = {words[0]: words[2] for line in lines if len(words := line.split(None, 2)) == 3}
    try:
        offset = int(lines[1])
        numbers = [int(fields[name]) for name in (b"sample_count", b"sample_n_bytes", b"channel_count")]
    except (IndexError, KeyError, ValueError):
        return FilePart("NIST", start, source.size)
    if b"embedded" in fields.get(b"sample_coding", b"") or min(numbers) < 0:
        return FilePart("NIST", start, source.size)
    stated = numbers[0] * numbers[1] * numbers[2]
    return _patched(_samples(source, start, None, start + offset, stated, _STREAMED_64), "NIST", ())


def voc_part(source: OpenFile, start: int) -> FilePart:
    """A Creative VOC: blocks that each state their size in three bytes, and a zero at the end."""
    place = start + struct.unpack("<H", source.at(start + 20, 2).ljust(2, b"\0"))[0]
    while place < source.size and (head := source.at(place, 4))[0]:
        place += 4 + int.from_bytes(head[1:], "little")
    fault = "its last block is not whole" if place > source.size else ""
    return FilePart("VOC", start, min(max(place, start) + 1, source.size), fault=fault)


def _chunks(source: OpenFile, place: int, origin: int, layout: _Layout) -> Iterator[_Chunk]:
    """The chunks from a place on, up to what is none."""
    while (chunk := _chunk_at(source, place, layout)) is not None:
        yield chunk
        place = _after(chunk.body + chunk.size, origin, layout)


def _chunk_at(source: OpenFile, place: int, layout: _Layout) -> _Chunk | None:
    head = source.at(place, layout.n_bytes)
    if len(head) < layout.n_bytes:
        return None
    name, size = struct.unpack(layout.head, head)
    if layout.counts_head:
        size -= layout.n_bytes
    named = all(0x20 <= byte < 0x7F for byte in name[:4])
    return _Chunk(name, place + layout.n_bytes, size) if named and size >= 0 else None


def _after(place: int, origin: int, layout: _Layout) -> int:
    return place + (origin - place) % layout.step


def _samples(
    source: OpenFile, start: int, layout: _Layout | None, body: int, stated: int, streamed: int
) -> FilePart:
    """The part whose samples begin at `body`: to where what is stated ends, and the chunks after it."""
    present = max(0, source.size - body)
    if stated > present:
        unknown = stated >= streamed
    else:
        unknown = stated == 0 and _tail_end(source, start, layout, body) < source.size - 8
    if unknown or stated > present:
        return FilePart(None, start, source.size, 0 if unknown else stated, present)
    end = _tail_end(source, start, layout, body + stated)
    # libsndfile takes all that follows in these for samples.
    read_to = body + stated if layout in (None, _W64) else None
    return FilePart(None, start, end, stated, stated, read_to)


def _tail_end(source: OpenFile, origin: int, layout: _Layout | None, place: int) -> int:
    """Where the whole chunks after the samples end; some writers leave the padding before the first out."""
    if layout is None:
        return place
    aligned = min(_after(place, origin, layout), source.size)
    for first in (aligned, place):
        end = first
        while (chunk := _chunk_at(source, end, layout)) is not None:
            after = chunk.body + chunk.size
            if after > source.size or kind_of(source.at(end, HEAD_BYTES)) is not None:
                break
            end = min(_after(after, origin, layout), source.size)
        if end > first:
            return end
    return aligned


def _packed(size_format: str, value: int) -> bytes:
    """A size as a header holds it, at most the largest that it can."""
    return struct.pack(size_format, min(value, (1 << 8 * struct.calcsize(size_format)) - 1))


def _patched(part: FilePart, kind: str, sizes: tuple[tuple[int, bytes], ...]) -> FilePart:
    """The part, with its header corrected where that does not state what is there."""
    wrong = part.stated_bytes != part.present_bytes
    return replace(part, kind=kind, patches=sizes if wrong else ())
