"""One shard of a dataset: some clips' PCM and pitch lags in a safetensors file that describes itself.

Tensors, for each clip: `pcm/NAME` int16 (n_samples,) and `lags/NAME` float32 (n_frames,), where n_samples is n_frames
whole hops; and `mel/NAME` float32 (n_frames, n_mels) where a mel was given, with one frame more for padding "center".
The metadata is one key with JSON, so that equal contents give equal bytes.

Two digests are kept: one of the whole shard, and one of each clip, which is compared when the clip is first read.
"""

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from numpy.typing import NDArray
from pydantic import Field

from gru_audio.data.stored.index import MOST_SAMPLES
from gru_audio.documents import Document, DocumentError, parse_json
from gru_audio.errors import DatasetError
from gru_audio.files import open_file, why_no_file
from gru_audio.safetensors_file import METADATA_KEY, SafetensorsFile, UnreadableTensorsError, read_header
from gru_audio.voice.tensor_file import digest_of

SHARD_VERSION = 1
_Layout = tuple[str, list[int]]  # type and shape
_Digest = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]


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
        mel_shift: by how many frames its given mel lay too late; None where it has none.
    """

    name: str
    speaker: str
    source: str
    n_samples: int
    digest: str
    full_scale_samples: int
    key: str = ""
    mel_shift: int | None = None


@dataclass(frozen=True)
class ShardHeader:
    """What a shard says of itself.

    Attributes:
        fingerprint: of everything that went in: sources, settings, format version.
        content: digest of all PCM and lags, to find damage.
        clips: the clips in it, in order.
        skipped: sources that could not be used, each with the reason.
        clip_digests: of each clip's tensors, in order; none in shards of versions that did not tell them.
    """

    fingerprint: str
    content: str
    clips: tuple[ClipRecord, ...]
    skipped: tuple[tuple[str, str], ...]
    clip_digests: tuple[str, ...] = ()

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


def mel_key(name: str) -> str:
    """Name of the tensor that holds the mel that was given for a clip."""
    return f"mel/{name}"


def keys_of(clip: ClipRecord) -> list[str]:
    """Names of all tensors of a clip."""
    given = [] if clip.mel_shift is None else [mel_key(clip.name)]
    return [pcm_key(clip.name), lags_key(clip.name), *given]


def encode_shard(
    fingerprint: str,
    clips: Iterable[ClipRecord],
    skipped: Iterable[tuple[str, str]],
    tensors: Mapping[str, NDArray[Any]],
) -> tuple[ShardHeader, bytes]:
    """A shard as the bytes of its file, with its header."""
    import safetensors.numpy

    clips = tuple(clips)
    digests = tuple(digest_of(*(tensors[key] for key in keys_of(clip))) for clip in clips)
    header = ShardHeader(fingerprint, _content(tensors), clips, tuple(skipped), digests)
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
        with open_file(path) as file:
            header, _ = read_header(file)
        return "fingerprint" in parse_json(header["__metadata__"][METADATA_KEY])
    except (OSError, KeyError, TypeError, DocumentError, UnreadableTensorsError):
        return False


def read_shard_header(path: Path, hop_samples: int | None = None) -> ShardHeader:
    """A shard's header, once it is certain that its tensors are there, with the types and lengths that it tells.

    Args:
        path: the shard.
        hop_samples: of which clips have whole numbers, and as many lags; None does not look.

    Raises:
        DamagedShardError: missing, truncated, no shard of this version, or a clip is not what the header tells.
    """
    with _opened(path) as file:
        try:
            header = _parse(file.document())
        except KeyError as error:
            raise DamagedShardError("it holds no header of gru-audio's") from error
        except DocumentError as error:
            raise DamagedShardError(f"its header {error}") from error
        names = set(file.names)
        for clip in header.clips:
            if not set(keys_of(clip)) <= names:
                raise DamagedShardError(f"it lacks the clip {clip.name}")
            if not _fits(clip, *map(file.layout, keys_of(clip)), hop_samples=hop_samples):
                raise DamagedShardError(
                    f"its clip {clip.name} has another length or type than its header tells"
                )
    return header


def _fits(
    clip: ClipRecord, pcm: _Layout, lags: _Layout, mel: _Layout | None = None, *, hop_samples: int | None
) -> bool:
    """Whether a clip's tensors are of the types and lengths that its record tells."""
    if pcm != ("I16", [clip.n_samples]) or lags[0] != "F32":
        return False
    n_frames, rest = divmod(clip.n_samples, hop_samples or 1)
    if mel is not None and (mel[0] != "F32" or len(mel[1]) != 2):
        return False
    if hop_samples is None:
        return True
    has_mel_frames = mel is None or mel[1][0] in (n_frames, n_frames + 1)
    return not rest and lags[1] == [n_frames] and has_mel_frames


def read_verified(path: Path) -> tuple[ShardHeader, dict[str, NDArray[Any]]]:
    """A shard's header and its tensors, which were compared with their digest.

    Raises:
        DamagedShardError: as `read_shard_header`, or a bit of the tensors differs.
    """
    header = read_shard_header(path)
    with _opened(path) as file:
        tensors = {name: file.tensor(name) for name in file.names}
    if _content(tensors) != header.content:
        raise DamagedShardError("its contents do not match their digest")
    return header, tensors


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[SafetensorsFile]:
    """A shard's open file; whatever is wrong with it is a `DamagedShardError`."""
    reason = why_no_file(path)
    if reason is not None:
        raise DamagedShardError(reason)
    try:
        with SafetensorsFile(path) as file:
            yield file
    except UnreadableTensorsError as error:
        raise DamagedShardError(str(error)) from error


def damaged_shard(shard: Path, reason: str) -> DatasetError:
    """The error that tells a user of a damaged shard."""
    return DatasetError(
        f"{shard}: missing or damaged ({reason}); run the same gru-audio prep again, it redoes this shard alone"
    )


def _content(tensors: Mapping[str, NDArray[Any]]) -> str:
    return digest_of(*(part for key in sorted(tensors) for part in (key.encode(), tensors[key])))


class _StoredClip(Document):
    name: str
    speaker: str
    source: str
    n_samples: Annotated[int, Field(gt=0, le=MOST_SAMPLES)]
    digest: _Digest
    full_scale_samples: Annotated[int, Field(ge=0)]
    key: _Digest | Literal[""] = ""
    mel_shift: int | None = None


class _StoredHeader(Document):
    version: int
    fingerprint: str
    content: _Digest
    clips: list[_StoredClip]
    skipped: list[Annotated[list[str], Field(min_length=2, max_length=2)]]
    clip_digests: list[_Digest] = Field(default=[])


def _parse(content: Any) -> ShardHeader:
    stored = _StoredHeader.of(content)
    if stored.version != SHARD_VERSION:
        raise DocumentError(f"is of shard version {stored.version}, this program reads {SHARD_VERSION}")
    if stored.clip_digests and len(stored.clip_digests) != len(stored.clips):
        raise DocumentError("has not one digest for each clip")
    return ShardHeader(
        fingerprint=stored.fingerprint,
        content=stored.content,
        clips=tuple(
            ClipRecord(**{name: getattr(clip, name) for name in ClipRecord.__dataclass_fields__})
            for clip in stored.clips
        ),
        skipped=tuple((source, reason) for source, reason in stored.skipped),
        clip_digests=tuple(stored.clip_digests),
    )
