"""`--manifest`: which kind of listing or archive it is, and the recordings it names, one by one."""

import json
from collections.abc import Iterator
from pathlib import Path

from gru_audio.data.inputs.archives import TAR_SUFFIXES, read_tar
from gru_audio.data.inputs.arrow_files import ARROW_SUFFIXES, read_arrow
from gru_audio.data.inputs.found import Found
from gru_audio.data.inputs.json_lines import read_json_lines
from gru_audio.data.inputs.kaldi import read_wav_scp
from gru_audio.data.inputs.resolver import Resolver
from gru_audio.data.inputs.speakers import SpeakerRule
from gru_audio.data.inputs.tables import find_form, read_rows
from gru_audio.errors import DatasetError
from gru_audio.folders import walk
from gru_audio.text_files import read_lines

_JSON_SUFFIXES = (".jsonl", ".json", ".ndjson", ".jsonl.gz", ".json.gz")


def read_manifest(path: Path, rule: SpeakerRule, notes: list[str]) -> Iterator[Found]:
    """The recordings of a listing, of an archive, or of a folder of archives, in its order.

    Args:
        path: CSV, TSV, lines with bars, a list of paths, `wav.scp`, JSON lines (any of them gzipped); a tar or
            Parquet file; a folder of tar files, of Parquet files, or as `datasets` saves it.
        rule: how speakers are told where the listing does not say it.
        notes: to which is added how a table was understood.

    Raises:
        DatasetError: missing, of no kind that is known, or damaged.
        MissingPackageError: the kind needs an extra.
    """
    if path.is_dir():
        yield from _folder(path, rule)
        return
    if not path.is_file():
        raise DatasetError(f"{path}: no such file or folder; check the path")
    name = path.name.lower()
    if name.endswith(TAR_SUFFIXES):
        yield from read_tar(path, path.parent, 0, rule)
    elif name.endswith(ARROW_SUFFIXES):
        yield from read_arrow(path, path.parent, 0, rule)
    else:
        resolver = Resolver(path.parent, rule)
        if name.endswith(_JSON_SUFFIXES) or _is_json(path):
            yield from read_json_lines(path, resolver)
        elif name.endswith((".scp", ".scp.gz")):
            yield from read_wav_scp(path, resolver)
        else:
            yield from read_table(path, resolver, notes)


def read_table(path: Path, resolver: Resolver, notes: list[str]) -> Iterator[Found]:
    """The recordings of a CSV, a TSV, lines with bars or a list of paths.

    Raises:
        DatasetError: it cannot be read, or names no recording.
    """
    form = find_form(path, resolver.exists)
    notes.append(f"{path}: {form.told()}")
    for index, row in enumerate(read_rows(path, form)):
        yield resolver.found(row.audio, index, row.speaker)


def _is_json(path: Path) -> bool:
    try:
        first = next((line for line in read_lines(path) if line.strip()), "")
        return first.lstrip().startswith("{") and isinstance(json.loads(first), dict)
    except (OSError, ValueError, RecursionError):
        return False


def _folder(folder: Path, rule: SpeakerRule) -> Iterator[Found]:
    """The recordings of a folder's archives."""
    files = [path for path in walk(folder) if path.name.lower().endswith((*TAR_SUFFIXES, *ARROW_SUFFIXES))]
    tars = [path for path in files if path.name.lower().endswith(TAR_SUFFIXES)]
    if not files:
        raise DatasetError(
            f"{folder}: has neither tar files (WebDataset) nor Parquet or Arrow files; name a listing, "
            "or give the folder as a SOURCE"
        )
    # What `datasets` caches of its own computations lies beside the data of save_to_disk.
    rows = [path for path in files if path not in tars and not path.name.startswith("cache-")]
    for index, path in enumerate(tars or rows):
        if tars:
            yield from read_tar(path, folder, index, rule)
        else:
            yield from read_arrow(path, folder, index, rule)
