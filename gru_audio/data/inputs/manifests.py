"""`--manifest`: which kind of listing or archive it is, and the recordings it names, one by one."""

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
from gru_audio.documents import DocumentError, parse_json, read_text
from gru_audio.errors import DatasetError
from gru_audio.files import is_folder, why_neither, why_no_file
from gru_audio.folders import refuse_unsearched, walk
from gru_audio.text_files import read_lines

_JSON_SUFFIXES = (".jsonl", ".json", ".ndjson", ".jsonl.gz", ".json.gz")


_STATE = "state.json"
_SAVED_BESIDE = (_STATE, "dataset_info.json", "dataset_dict.json")


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
    if is_folder(path):
        yield from _folder(path, rule)
        return
    if (reason := why_neither(path)) is not None:
        raise DatasetError(f"{path}: {reason}; check the path")
    name = path.name.lower()
    if path.name in _SAVED_BESIDE:
        raise DatasetError(
            f"{path}: belongs to a dataset that `datasets` saved; give its folder, --manifest {path.parent}"
        )
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
        return first.lstrip().startswith("{") and isinstance(parse_json(first, finite=False), dict)
    except (OSError, ValueError):
        return False


def _folder(folder: Path, rule: SpeakerRule) -> Iterator[Found]:
    """The recordings of a folder's archives."""
    files = [
        path
        for path in walk(folder, on_error=refuse_unsearched)
        if path.name.lower().endswith((*TAR_SUFFIXES, *ARROW_SUFFIXES))
    ]
    tars = [path for path in files if path.name.lower().endswith(TAR_SUFFIXES)]
    if not files:
        raise DatasetError(
            f"{folder}: has neither tar files (WebDataset) nor Parquet or Arrow files; name a listing, "
            "or give the folder as a SOURCE"
        )
    for index, path in enumerate(tars or _rows_of(files)):
        if tars:
            yield from read_tar(path, folder, index, rule)
        else:
            yield from read_arrow(path, folder, index, rule)


def _rows_of(paths: list[Path]) -> list[Path]:
    """Those of Parquet and Arrow files that hold rows of a dataset, as far as what lies beside them tells.

    Raises:
        DatasetError: one that `save_to_disk` wrote is missing.
    """
    named = {folder: _data_files(folder) for folder in {path.parent for path in paths}}
    for folder, names in named.items():
        for name in names:
            if why_no_file(folder / name) is not None:
                raise DatasetError(f"{folder}: lacks {name}, which its {_STATE} names; copy the whole folder")
    # What `datasets` cached of its own computations, or left of an earlier saving, lies beside the data.
    return [
        path
        for path in paths
        if (path.name in named[path.parent] if named[path.parent] else not path.name.startswith("cache-"))
    ]


def _data_files(folder: Path) -> frozenset[str]:
    """The files that `save_to_disk` says it wrote to a folder; none where another wrote it."""
    try:
        state = parse_json(read_text(folder / _STATE))
        return frozenset(str(file["filename"]) for file in state["_data_files"])
    except (OSError, DocumentError, KeyError, TypeError):
        return frozenset()
