"""Hugging Face's audio datasets as they lie on disk: Parquet files, or the Arrow files of `save_to_disk`.

They are read with pyarrow itself, which is what `datasets` stores them with: nothing is converted, cached elsewhere or
executed. A row's audio is its bytes as some audio file, or that file's path.
"""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from gru_audio.data.inputs.found import Found, stamp_of
from gru_audio.data.inputs.speakers import SpeakerRule
from gru_audio.data.inputs.tables import AUDIO_COLUMNS, SPEAKER_COLUMNS
from gru_audio.errors import DatasetError
from gru_audio.extras import require
from gru_audio.files import why_no_file

ARROW_SUFFIXES = (".parquet", ".arrow")
_SCANNED_ROWS = 1024


def read_arrow(path: Path, root: Path, index: int, rule: SpeakerRule) -> Iterator[Found]:
    """The recordings of one file, in its order; of the audio itself nothing is read.

    Args:
        path: a Parquet or Arrow file.
        root: the folder that was given.
        index: of the file among those of the folder.
        rule: how speakers are told where no column says it.

    Raises:
        DatasetError: damaged, or without a column of audio.
        MissingPackageError: pyarrow is not installed.
    """
    require("datasets", f"reading {path.suffix} files")
    import pyarrow

    _, mtime = stamp_of(path)
    stem = path.relative_to(root).with_suffix("").as_posix()
    try:
        for row, (named, speaker, size) in enumerate(_rows(path)):
            inner = PurePosixPath(
                *(part for part in PurePosixPath(named).parts if part not in ("/", "..", "."))
            )
            if not inner.name:
                inner = PurePosixPath(f"{row:06}")
            order = index.to_bytes(4, "big") + row.to_bytes(4, "big")
            who = speaker or rule.speaker(inner, root.resolve().name)
            if size >= 0:
                yield Found(
                    path, f"{stem}/{inner}", who, size, mtime, order, member=f"row {row}", place=row,
                    identity="" if inner.suffix else f"{stem}/{inner}",
                )  # fmt: skip
            else:  # its bytes lie in a file of their own, named from there or from here
                beside = path.parent / named
                file = beside if why_no_file(beside) is None else Path(named)
                yield Found(file, str(inner), who, *stamp_of(file), order)
    except (OSError, pyarrow.ArrowException) as error:
        raise DatasetError(f"{path}: damaged ({str(error)[:120]}); replace it") from error


def read_row(path: Path, row: int) -> bytes:
    """The bytes of one row's audio.

    Raises:
        OSError: the file cannot be read.
        ValueError: the row has no bytes any more.
    """
    import pyarrow

    try:
        if path.suffix == ".parquet":
            first, column = _row_group(path, row)
            value = column[row - first]
        else:
            value = _arrow_column(path)[row]
    except (pyarrow.ArrowException, IndexError) as error:
        raise ValueError(str(error)) from error
    data = value.as_py()
    if isinstance(data, dict):
        data = data.get("bytes")
    if not isinstance(data, bytes):
        raise ValueError("the row has no bytes")
    return data


def _rows(path: Path) -> Iterator[tuple[str, str, int]]:
    """Of each row its path, its speaker and the size of its bytes; of what a Parquet file has, the mean size."""
    if path.suffix == ".arrow":
        for batch in _arrow_batches(path):
            yield from _columns(path, batch, None)
        return
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        schema = file.schema_arrow
        audio = _audio_column(path, schema)
        wanted = [f"{audio}.path"] if _has_field(schema.field(audio).type, "path") else []
        wanted += [name for name in SPEAKER_COLUMNS if name in schema.names][:1]
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group)
            size = rows.total_byte_size // max(rows.num_rows, 1)
            if _has_no_bytes(rows, f"{audio}.bytes"):
                size = -1
            if not wanted:
                yield from (("", "", size) for _ in range(rows.num_rows))
                continue
            for batch in file.iter_batches(_SCANNED_ROWS, row_groups=[group], columns=wanted):
                yield from _columns(path, batch, size)


def _columns(path: Path, batch: Any, size: int | None) -> Iterator[tuple[str, str, int]]:
    """What `_rows` gives, of a batch; of a Parquet file's the bytes are not there, and `size` is theirs."""
    from pyarrow import compute

    names, n_rows = batch.schema.names, batch.num_rows
    speaker = next((name for name in SPEAKER_COLUMNS if name in names), None)
    speakers = batch.column(speaker).to_pylist() if speaker else [None] * n_rows
    paths, sizes = [None] * n_rows, [size] * n_rows
    audio = (
        _audio_column(path, batch.schema) if size is None else next((n for n in names if n != speaker), None)
    )
    if audio is not None:
        column = batch.column(audio)
        if _has_field(column.type, "path"):
            paths = compute.struct_field(column, "path").to_pylist()
        if size is None:
            held = compute.struct_field(column, "bytes") if _has_field(column.type, "bytes") else column
            sizes = compute.binary_length(held).to_pylist()
    for named, who, length in zip(paths, speakers, sizes, strict=True):
        n_bytes = -1 if length is None else int(length)
        # What has neither bytes nor a file is told when it is to be read.
        yield named or "", "" if who is None else str(who), n_bytes if named else max(0, n_bytes)


def _audio_column(path: Path, schema: Any) -> str:
    """The column that holds audio: a struct of bytes and path, or bytes under a usual name."""
    import pyarrow

    nested = [field.name for field in schema if _has_field(field.type, "bytes")]
    if nested:
        return str(nested[0])
    for name in (*AUDIO_COLUMNS, "bytes"):
        if name in schema.names:
            kind = schema.field(name).type
            if pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind):
                return name
    raise DatasetError(
        f"{path}: has no column of audio files' bytes (it has {', '.join(schema.names[:8])}); "
        "save the dataset with its audio embedded"
    )


def _has_no_bytes(rows: Any, name: str) -> bool:
    """Whether a group's statistics say that a column is empty throughout: then the audio lies in files."""
    for number in range(rows.num_columns):
        column = rows.column(number)
        if column.path_in_schema == name and column.statistics is not None:
            return bool(column.statistics.null_count == rows.num_rows)
    return False


def _has_field(kind: Any, field: str) -> bool:
    import pyarrow

    return bool(pyarrow.types.is_struct(kind)) and kind.get_field_index(field) >= 0


def _arrow_batches(path: Path) -> Iterator[Any]:
    """The record batches of an Arrow file, mapped into memory and not copied."""
    import pyarrow

    with pyarrow.memory_map(str(path)) as mapped:
        try:
            reader = pyarrow.ipc.open_stream(mapped)
            yield from reader
        except pyarrow.ArrowInvalid:
            mapped.seek(0)
            file = pyarrow.ipc.open_file(mapped)
            yield from (file.get_batch(number) for number in range(file.num_record_batches))


@lru_cache(maxsize=1)
def _arrow_column(path: Path) -> Any:
    import pyarrow

    batches = list(_arrow_batches(path))
    table = pyarrow.Table.from_batches(batches)
    return table.column(_audio_column(path, table.schema))


def _row_group(path: Path, row: int) -> tuple[int, Any]:
    """The first row of the group that holds a row, and the group's audio."""
    first = 0
    for group, n_rows in enumerate(_group_sizes(path)):
        if row < first + n_rows:
            return first, _group(path, group)
        first += n_rows
    raise IndexError(f"has no row {row}")


@lru_cache(maxsize=1)
def _group_sizes(path: Path) -> tuple[int, ...]:
    import pyarrow.parquet

    metadata = pyarrow.parquet.read_metadata(path)
    return tuple(metadata.row_group(group).num_rows for group in range(metadata.num_row_groups))


@lru_cache(maxsize=1)  # neighbours are read one after the other
def _group(path: Path, group: int) -> Any:
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        audio = _audio_column(path, file.schema_arrow)
        return file.read_row_group(group, columns=[audio]).column(audio)
