"""The folder that a dataset is written to: what is there already, and whether it may be replaced or added to."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from gru_audio.config import Config
from gru_audio.data.stored.contents import (
    DATASET_FILE,
    INDEX_NAME,
    index_from_shards,
    read_contents,
    stored_index,
)
from gru_audio.data.stored.index import Index
from gru_audio.data.stored.shards import (
    DamagedShardError,
    is_shard,
    read_shard_header,
    shard_files,
    shard_name,
)
from gru_audio.errors import DatasetError, OutputError
from gru_audio.files import output_errors, remove_abandoned

_OVERWRITE = "choose another folder, or add --overwrite to replace it (what has not changed is kept)"
_TABLES = ("mel", "signal", "prep")


class Part(NamedTuple):
    """What one run made.

    Attributes:
        given: digest of all recordings that it was given.
        plan: digest of those that it took, and of the settings.
        shards: how many shards hold them.
    """

    given: str
    plan: str
    shards: int


@dataclass(frozen=True)
class Old:
    """The dataset that is in the folder.

    Attributes:
        path: the folder.
        contents: its dataset.json.
        parts: in the order of their shards; none of a dataset of version 1.
    """

    path: Path
    contents: Mapping[str, Any]
    parts: tuple[Part, ...]

    def shards_before(self, part: int) -> int:
        """How many shards the parts before one have."""
        return sum(found.shards for found in self.parts[:part])

    def index(self) -> tuple[Index, bool]:
        """Its clips, from the shards themselves where its index is damaged; and whether they have their splits.

        Raises:
            DatasetError: a shard is damaged, too.
        """
        try:
            return stored_index(self.path, self.contents), True
        except DatasetError:
            names = [shard_name(number) for number in range(self.shards_before(len(self.parts)))]
            return index_from_shards(self.path, names, {}), False

    def require_settings(self, config: Config) -> None:
        """Make sure that recordings treated with a config can be added.

        Raises:
            OutputError: the dataset was made with other settings, or by a version that kept no list.
        """
        if not self.parts:
            raise OutputError(
                f"{self.path}: was made by an older version, nothing can be added; prepare it again, with --overwrite"
            )
        if differing := _differences(self.contents, config):
            raise OutputError(
                f"{self.path}: was made with other settings ({'; '.join(differing)}); "
                "add with the same, or choose another folder"
            )


def settings_of(config: Config) -> dict[str, Any]:
    """The tables that shape a dataset."""
    return {table: getattr(config, table).model_dump() for table in _TABLES}


def find_old(out: Path) -> Old | None:
    """The dataset in a folder, which is made where it is missing; None where there is none.

    Raises:
        OutputError: the folder cannot be made, or holds another program's dataset.json.
    """
    with output_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        if not (out / DATASET_FILE).exists():
            return None
    try:
        contents = read_contents(out)
    except DatasetError as error:
        raise OutputError(str(error)) from error
    try:
        parts = tuple(
            Part(str(part["given"]), str(part["plan"]), int(part["shards"]))
            for part in contents.get("parts", [])
        )
    except (TypeError, KeyError, ValueError):
        parts = ()
    return Old(out, contents, parts)


class Claim:
    """Looks at the shards' places before they are written, one by one."""

    def __init__(self, out: Path, old: Old | None) -> None:
        """Look at the folder.

        Raises:
            OutputError: it holds no dataset, finished or not, but something else.
        """
        self._out = out
        listed = None if old is None else old.contents.get("shards")
        names = range(old.shards_before(len(old.parts))) if old else ()
        self._listed = {*map(shard_name, names), *(listed if isinstance(listed, list) else ())}
        self._is_ours = False
        if old is None:
            with output_errors(out):
                present = [entry for entry in out.iterdir() if not entry.name.startswith(".")]
            if present and not any(map(is_shard, shard_files(out))):
                raise OutputError(
                    f"{out}: is not empty and no dataset (it has {present[0].name}); choose a new folder"
                )

    def look(self, shard: Path, fingerprint: str) -> None:
        """Make sure that what is in a shard's place is a shard, or was one as dataset.json has it.

        Raises:
            OutputError: it is another program's.
        """
        if not shard.exists():
            return
        if shard.name not in self._listed and not is_shard(shard):
            raise OutputError(f"{shard}: not gru-audio's; choose a new folder, or move the file away")
        self._is_ours = self._is_ours or _fingerprint(shard) == fingerprint

    def require_own(self) -> None:
        """Make sure that the shards in a folder without dataset.json are of an unfinished run of this plan.

        Raises:
            OutputError: they are another plan's.
        """
        if not self._is_ours and any(map(_fingerprint, shard_files(self._out))):
            raise OutputError(
                f"{self._out}: holds an unfinished dataset of other sources or settings; {_OVERWRITE}"
            )


def release(old: Old, config: Config, *, overwrite: bool) -> None:
    """Give up the dataset of another plan.

    Raises:
        OutputError: without `overwrite`; says how it differs.
    """
    if not overwrite:
        raise OutputError(f"{old.path}: holds a dataset {_difference(old, config)}; {_OVERWRITE}")
    contents = old.path / DATASET_FILE
    with output_errors(contents):
        contents.unlink()  # or an interruption would leave it with shards of another plan


def stale_files(out: Path, n_shards: int, index: str) -> Iterator[Path]:
    """The shards behind a dataset's last, and the indexes that it had before."""
    current = {shard_name(number) for number in range(n_shards)}
    yield from (path for path in shard_files(out) if path.name not in current and is_shard(path))
    yield from (path for path in out.iterdir() if INDEX_NAME.fullmatch(path.name) and path.name != index)


def remove(stale: Iterable[Path]) -> None:
    """Remove files, whether or not they are there.

    Raises:
        OutputError: one cannot be removed.
    """
    for path in stale:
        with output_errors(path):
            path.unlink(missing_ok=True)


@contextmanager
def tidy(out: Path) -> Iterator[None]:
    """Remove what processes that were killed in the middle of writing have left, before and after."""

    def clear() -> None:
        remove_abandoned(out)
        for pattern in (".shard-[0-9]*.partial.safetensors", ".dataset.*.partial.json"):  # older versions'
            for partial in out.glob(pattern):
                with suppress(OSError):
                    partial.unlink()

    clear()
    try:
        yield
    finally:
        clear()


def _difference(old: Old, config: Config) -> str:
    """How a dataset's settings differ from a config, or else its sources."""
    if differing := _differences(old.contents, config):
        return f"made with other settings ({'; '.join(differing)})"
    if not old.parts:
        return "made by an older version"
    return "made of other sources, or of files that have changed since (--append adds what is new)"


def _differences(contents: Mapping[str, Any], config: Config) -> list[str]:
    def stored(table: str, key: str) -> Any:
        values = contents.get(table)
        return values.get(key) if isinstance(values, dict) else None

    return [
        f"{table}.{key} {stored(table, key)}, now {value}"
        for table, settings in settings_of(config).items()
        for key, value in settings.items()
        if stored(table, key) != value
    ]


def _fingerprint(shard: Path) -> str | None:
    try:
        return read_shard_header(shard).fingerprint
    except DamagedShardError:
        return None
