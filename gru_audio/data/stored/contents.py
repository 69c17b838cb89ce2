"""What dataset.json says, and the index that it names."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from gru_audio.data.stored.index import SPLITS, DamagedIndexError, Index, read_index
from gru_audio.data.stored.index_writer import index_writer
from gru_audio.data.stored.shards import DamagedShardError, damaged_shard, read_shard_header, shard_name
from gru_audio.documents import Document, DocumentError, parse_json, read_text
from gru_audio.errors import DatasetError
from gru_audio.files import is_folder

DATASET_FILE = "dataset.json"
DATASET_FORMAT = "gru-audio dataset"
DATASET_VERSION = 2

INDEX_NAME = re.compile(r"index-[0-9a-f]{12}\.safetensors")

MEND = "delete this file and run the same gru-audio prep again, it redoes only what is missing"
"""What the user can do about a damaged file of these."""


class _Splits(Document):
    valid: list[str]
    test: list[str]


class _Contents(Document):
    """What dataset.json holds, of any version."""

    licence: str
    source_note: str
    mel: dict[str, Any]
    signal: dict[str, Any]
    prep: dict[str, Any]


class _Version1(_Contents):
    splits: _Splits
    shards: list[str]


class _Version2(_Contents):
    index: Annotated[str, Field(pattern="^[0-9a-f]{32}$")]


def index_name(digest: str) -> str:
    """The file name of the index with this digest: a new one takes an old one's place once dataset.json names it.

    Raises:
        TypeError: that is no digest.
    """
    if not isinstance(digest, str) or not re.fullmatch(r"[0-9a-f]{32}", digest):
        raise TypeError("its index has no digest")
    return f"index-{digest[:12]}.safetensors"


def read_contents(path: Path) -> dict[str, Any]:
    """What a dataset's dataset.json says.

    Raises:
        DatasetError: missing, not a dataset, or made by a newer version.
    """
    file = path / DATASET_FILE
    try:
        contents = parse_json(read_text(file))
    except (FileNotFoundError, NotADirectoryError) as error:
        what = f"has no {DATASET_FILE}" if is_folder(path) else "no such folder"
        raise DatasetError(f"{path}: not a dataset ({what}); make one with gru-audio prep") from error
    except OSError as error:
        raise DatasetError(f"{file}: {error.strerror}; check the path, and who may read it") from error
    except DocumentError as error:
        raise DatasetError(f"{file}: damaged ({error}); {MEND}") from error
    if not isinstance(contents, dict) or contents.get("format") != DATASET_FORMAT:
        raise DatasetError(f"{file}: not gru-audio's; choose another folder")
    version = contents.get("version")
    if not isinstance(version, int) or not 1 <= version <= DATASET_VERSION:
        raise DatasetError(
            f"{path}: dataset version {version}, this program reads up to {DATASET_VERSION}; update gru-audio"
        )
    try:
        (_Version1 if version == 1 else _Version2).of(contents)
    except DocumentError as error:
        raise DatasetError(f"{file}: damaged ({error}); {MEND}") from error
    for shard in contents["shards"] if version == 1 else ():
        if not shard or Path(shard).name != shard or shard.startswith("."):
            raise DatasetError(f"{file}: names {shard}, which is no file of its folder; {MEND}")
    return contents


def index_of(path: Path, contents: Mapping[str, Any]) -> tuple[Index, Sequence[str]]:
    """The list of a dataset's clips, and its shards' file names.

    Args:
        path: the dataset's folder.
        contents: as `read_contents` gives it.

    Raises:
        DatasetError: the index or a shard is missing or damaged.
    """
    if contents["version"] == 1:
        splits = {name: SPLITS.index(split) for split in SPLITS[1:] for name in contents["splits"][split]}
        return index_from_shards(path, contents["shards"], splits), contents["shards"]
    index = stored_index(path, contents)
    with os.scandir(path) as entries:
        sizes = {entry.name: entry.stat().st_size for entry in entries if entry.name.startswith("shard-")}
    shards = [shard_name(number) for number in range(len(index.shard_bytes))]
    for shard, n_bytes in zip(shards, index.shard_bytes, strict=True):
        if sizes.get(shard) != n_bytes:
            raise damaged_shard(path / shard, f"it has {sizes.get(shard, 0)} bytes in place of {n_bytes}")
    return index, shards


def stored_index(path: Path, contents: Mapping[str, Any]) -> Index:
    """The index file that a dataset.json names, whatever its shards are.

    Raises:
        DatasetError: missing or damaged.
    """
    file = path / index_name(contents["index"])
    try:
        return read_index(file, contents["index"])
    except DamagedIndexError as error:
        raise DatasetError(f"{file}: missing or damaged ({error}); {MEND}") from error


def index_from_shards(path: Path, shards: Sequence[str], splits: Mapping[str, int]) -> Index:
    """The list of a dataset's clips as its shards' headers tell it.

    Args:
        path: the dataset's folder.
        shards: file names.
        splits: the number in SPLITS of each clip's split, by name; what it leaves out is train.

    Raises:
        DatasetError: a shard is missing or damaged.
    """
    with index_writer() as writer:
        for shard in shards:
            try:
                writer.add(read_shard_header(path / shard), (path / shard).stat().st_size)
            except DamagedShardError as error:
                raise damaged_shard(path / shard, str(error)) from error
        places = [splits.get(name, 0) for name in writer.view().names]
        writer.set_splits(np.array(places, np.uint8))
        return writer.view()
