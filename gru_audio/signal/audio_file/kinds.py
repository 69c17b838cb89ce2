"""What a file is, by its first bytes; a name's suffix says nothing."""

import struct
from dataclasses import dataclass

HEAD_BYTES = 8 << 10
"""So many bytes tell `kind_of` all that it asks for."""

_AUDIO = {
    b"fLaC": "FLAC",
    b"OggS": "Ogg",
    b"caff": "CAF",
    b".snd": "AU",
    b"dns.": "AU",
    b"riff\x2e\x91\xcf\x11": "W64",
    b"NIST_1A": "NIST",
    b"Creative Voice File": "VOC",
    b"\x1a\x45\xdf\xa3": "Matroska",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11": "WMA",
    b"#!AMR": "AMR",
    b"MAC ": "APE",
    b"wvpk": "WavPack",
    b"TTA1": "TTA",
}
_NO_AUDIO = {
    b"\x93NUMPY": ".npy",
    b"PK\x03\x04": ".npz or .pt",
    b"\x1f\x8b\x08": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\xfd7zXZ\x00": "xz",
    b"BZh": "bzip2",
    b"\x89HDF\r\n": "HDF5",
    b"\x89PNG": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"%PDF": "PDF",
}
NO_AUDIO_KINDS = frozenset({*_NO_AUDIO.values(), ".safetensors", "text"})
"""The kinds that hold no audio, but might be given in its place."""

_RIFF = {b"RIFF": "WAV", b"RIFX": "WAV", b"RF64": "RF64", b"BW64": "RF64"}
_TEXT_BYTES = 24  # as many printable bytes in a row are no numbers
_PRINTABLE = frozenset(range(0x20, 0x7F)) | frozenset(b"\t\r\n")
_ID3_VERSIONS = (2, 3, 4)
_LARGEST_HEADER = 100 << 20  # of a .safetensors

_BIT_RATES_KBPS = {  # by layer, of MPEG-1 and of MPEG-2 and 2.5
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES_HZ = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}


@dataclass(frozen=True)
class MpegFrame:
    """The header of a frame of MPEG audio, layers I to III.

    Attributes:
        n_bytes: of the whole frame.
        n_samples: of each channel in it.
        sample_rate_hz: of the audio.
        tag_at: where in a frame of layer III an encoder's tag stands, if there is one.
    """

    n_bytes: int
    n_samples: int
    sample_rate_hz: int
    tag_at: int


def mpeg_frame(header: bytes) -> MpegFrame | None:
    """The frame that four bytes begin; None where they begin none, or one that does not state its length."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return None
    version, layer = header[1] >> 3 & 3, 4 - (header[1] >> 1 & 3)
    bit_rate, rate = header[2] >> 4, header[2] >> 2 & 3
    if version == 1 or layer == 4 or not 1 <= bit_rate <= 14 or rate == 3:
        return None
    rate_hz, generation = _RATES_HZ[version][rate], 1 if version == 3 else 2
    bits = 1000 * _BIT_RATES_KBPS[generation, layer][bit_rate - 1]
    n_samples = 384 if layer == 1 else 576 if (generation, layer) == (2, 3) else 1152
    slot = 4 if layer == 1 else 1
    n_bytes = (n_samples // 8 // slot * bits // rate_hz + (header[2] >> 1 & 1)) * slot
    side_bytes = {(1, False): 32, (1, True): 17, (2, False): 17, (2, True): 9}
    return MpegFrame(n_bytes, n_samples, rate_hz, 4 + side_bytes[generation, header[3] >> 6 == 3])


def id3_bytes(head: bytes) -> int:
    """The length of the ID3v2 tag that bytes begin with, which states it in four bytes of seven bits each; or 0."""
    if len(head) < 10 or head[:3] != b"ID3" or head[3] not in _ID3_VERSIONS:
        return 0
    return 10 + sum((byte & 0x7F) << 7 * place for place, byte in enumerate(head[9:5:-1]))


def kind_of(head: bytes) -> str | None:
    """The format of a file that begins with some bytes, `HEAD_BYTES` or all there are; None where nothing is sure."""
    for signature, kind in (_AUDIO | _NO_AUDIO).items():
        if head.startswith(signature):
            return kind
    return _kind_of_container(head) or _kind_of_numbers(head)


def _kind_of_container(head: bytes) -> str | None:
    """The format of files that name it after their size, or by frames one after the other."""
    if head[:4] in _RIFF and head[8:12] == b"WAVE":
        return _RIFF[head[:4]]
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return "AIFF"
    if head[4:8] == b"ftyp":
        return "MP4"
    if _begins_frames(head) or id3_bytes(head):  # what comes after a tag may be something else
        return "MP3"
    return "AAC" if _begins_adts(head) else None


def _kind_of_numbers(head: bytes) -> str | None:
    """The format of files that hold no audio, but might be taken for it."""
    if len(head) >= 9 and head[8:9] == b"{" and 2 < struct.unpack("<Q", head[:8])[0] < _LARGEST_HEADER:
        return ".safetensors"
    if len(head) >= _TEXT_BYTES and _PRINTABLE.issuperset(head[:_TEXT_BYTES]):
        return "text"
    return None


def _begins_frames(head: bytes) -> bool:
    """Whether two frames of MPEG audio stand one after the other."""
    first = mpeg_frame(head[:4])
    if first is None:
        return False
    second = mpeg_frame(head[first.n_bytes : first.n_bytes + 4])
    return second is not None and second.sample_rate_hz == first.sample_rate_hz


def _begins_adts(head: bytes) -> bool:
    """Whether two frames of bare AAC stand one after the other."""
    if len(head) < 7 or head[0] != 0xFF or head[1] & 0xF6 != 0xF0:
        return False
    n_bytes = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    return n_bytes > 7 and head[n_bytes : n_bytes + 2] == head[:2]
