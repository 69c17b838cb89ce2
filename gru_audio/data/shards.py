"""One shard of a dataset: some clips' PCM and pitch lags in a safetensors file that describes itself.

Tensors: `pcm/NAME` int16 (n_samples,) and `lags/NAME` float32 (n_frames,) for each clip, where n_samples is
n_frames whole hops. The metadata is one key with JSON, so that equal contents give equal bytes.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gru_audio.voice.tensor_file import METADATA_KEY

SHARD_VERSION = 1
_MOST_HEADER_BYTES = 100_000_000  # safetensors' own bound


class DamagedShardError(Exception):
    """A file is not a whole shard of this version; the caller says what that means for its user."""


@dataclass(frozen=True)
class ClipRecord:
    """What a shard says of one clip.

    Attributes:
        name: unique in the dataset.
        speaker: who speaks, as far as the folders tell.
        source: the file that it was made from, relative to the source given.
        n_samples: its length, a whole number of hops.
        digest: of the PCM; equal for equal clips.
        full_scale_samples: samples of the source that lie at full scale next to another such: clipping.
        key: of the source that it was made from; see `Source`. Empty in shards of a dataset of version 1.
    """

    name: str
    speaker: str
    source: str
    n_samples: int
    digest: str
    full_scale_samples: int
    key: str = ""


@dataclass(frozen=True)
class ShardHeader:
    """What a shard says of itself.

    Attributes:
        fingerprint: of everything that went in: sources, settings, format version.
        content: digest of all PCM and lags, to find damage.
        clips: the clips in it, in order.
        skipped: sources that could not be used, each with the reason.
    """

    fingerprint: str
    content: str
    clips: tuple[ClipRecord, ...]
    skipped: tuple[tuple[str, str], ...]

    @property
    def n_samples(self) -> int:
        """Samples of all clips together."""
        return sum(clip.n_samples for clip in self.clips)


def pcm_key(name: str) -> str:
    """Name of the tensor that holds a clip's PCM."""
    return f"pcm/{name}"


def lags_key(name: str) -> str:
    """Name of the tensor that holds a clip's pitch lags."""
    return f"lags/{name}"


def digest_of(*parts: bytes | NDArray[Any]) -> str:
    """Digest of bytes and of arrays' contents, in order."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part if isinstance(part, bytes) else np.ascontiguousarray(part).data)
    return digest.hexdigest()


def encode_shard(
    fingerprint: str,
    clips: Iterable[ClipRecord],
    skipped: Iterable[tuple[str, str]],
    tensors: Mapping[str, NDArray[Any]],
) -> tuple[ShardHeader, bytes]:
    """A shard as the bytes of its file, with its header."""
    import safetensors.numpy

    header = ShardHeader(fingerprint, _content(tensors), tuple(clips), tuple(skipped))
    text = json.dumps({"version": SHARD_VERSION, **asdict(header)})
    return header, safetensors.numpy.save(dict(tensors), metadata={METADATA_KEY: text})


def shard_name(number: int) -> str:
    """The file name of a dataset's shard."""
    return f"shard-{number:05}.safetensors"


def shard_files(folder: Path) -> list[Path]:
    """The files of a folder that are named as `prepare` names shards, in order."""
    return sorted(folder.glob("shard-[0-9]*.safetensors"))


def is_shard(path: Path) -> bool:
    """Whether a file was written as a shard, of any version; it may be damaged behind its header."""
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size)) if size <= _MOST_HEADER_BYTES else {}
        return "fingerprint" in json.loads(header["__metadata__"][METADATA_KEY])
    except (OSError, KeyError, TypeError, ValueError):
        return False


def read_header(path: Path) -> ShardHeader:
    """A shard's header; of its tensors only the extent is checked.

    Raises:
        DamagedShardError: missing, truncated, or no shard of this version.
    """
    import safetensors

    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
        return _parse(json.loads(metadata[METADATA_KEY]))
    except (OSError, safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
        raise DamagedShardError(str(error)) from error


def read_verified(path: Path) -> tuple[ShardHeader, dict[str, NDArray[Any]]]:
    """A shard's header and its tensors, which were compared with their digest.

    Raises:
        DamagedShardError: as `read_header`, or a bit of the tensors differs.
    """
    import safetensors.numpy

    header = read_header(path)
    try:
        tensors = safetensors.numpy.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise DamagedShardError(str(error)) from error
    if _content(tensors) != header.content:
        raise DamagedShardError("its contents do not match their digest")
    return header, tensors


def _content(tensors: Mapping[str, NDArray[Any]]) -> str:
    return digest_of(*(part for key in sorted(tensors) for part in (key.encode(), tensors[key])))


def _parse(stored: dict[str, Any]) -> ShardHeader:
    if stored["version"] != SHARD_VERSION:
        raise ValueError(f"shard version {stored['version']}, this program reads {SHARD_VERSION}")
    return ShardHeader(
        fingerprint=stored["fingerprint"],
        content=stored["content"],
        clips=tuple(ClipRecord(**clip) for clip in stored["clips"]),
        skipped=tuple((source, reason) for source, reason in stored["skipped"]),
    )
