"""All recordings of a plan, on disk: in order, each once, each with a name of its own.

A corpus of a million files would fill memory with their names alone; a database in a temporary file, which goes
with the connection, does not.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from gru_audio.data.inputs.found import Found, stamp_of
from gru_audio.data.inputs.lookup import scratch_database
from gru_audio.data.inputs.mels import GivenMels
from gru_audio.names import readable

_TABLE = """
CREATE TABLE found (
  root INTEGER, place BLOB, path BLOB, relative TEXT, name TEXT, speaker TEXT, size INTEGER, mtime INTEGER,
  member TEXT, at INTEGER, start REAL, stop REAL, key BLOB, mel BLOB, real BLOB, UNIQUE (real, at, start, stop)
)"""
_ALIKE = """
INSERT INTO alike SELECT rowid FROM found WHERE name <> relative
  AND (root, name) IN (SELECT root, name FROM found GROUP BY root, name HAVING COUNT(*) > 1)"""
_COLUMNS = "path, relative, name, speaker, size, mtime, member, at, start, stop, key, mel"
_FULL_RECORDING = -1.0  # in `stop`, since SQL holds two NULLs for different


@dataclass(frozen=True)
class Source:
    """One recording that is to become a clip, or several.

    Attributes:
        path: the file, or the archive that holds it.
        relative: the same relative to the source that the user gave; for a file its own name.
        name: the clip's name, unique among all sources.
        speaker: who speaks, as far as the source tells.
        size_bytes: of the audio as stored; -1 where it cannot be told, for example because it is missing.
        mtime_ns: when the file was last changed; -1 where that cannot be told.
        member: which part of an archive it is; empty for a file.
        place: where in the archive's file it begins, in bytes, or which row it is.
        start_s: where the stretch begins that is wanted.
        stop_s: where it ends; None at the recording's end.
        key: tells whether two plans mean the same recording, unchanged.
        mel: the mel that was made of it; None where none was given.
    """

    path: Path
    relative: str
    name: str
    speaker: str
    size_bytes: int
    mtime_ns: int
    member: str = ""
    place: int = 0
    start_s: float = 0.0
    stop_s: float | None = None
    key: str = ""
    mel: Path | None = None

    def absolute(self) -> "Source":
        """The same for a process that works in another folder."""
        return replace(self, path=self.path.absolute(), mel=self.mel and self.mel.absolute())


class Catalogue:
    """Gathers recordings; after `name_all` it can be gone through, as often as needed."""

    def __init__(self) -> None:
        self._roots: dict[Path, int] = {}
        # joblib asks for the next tasks from a thread of its own; it asks one at a time.
        self._database = scratch_database(self)
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.execute(_TABLE)
        self._database.execute("CREATE TABLE taken (name TEXT PRIMARY KEY) WITHOUT ROWID")
        self._database.execute("CREATE TABLE alike (row INTEGER PRIMARY KEY)")
        self._database.execute("BEGIN")

    def __len__(self) -> int:
        return int(self._database.execute("SELECT COUNT(*) FROM found").fetchone()[0])

    def __iter__(self) -> Iterator[Source]:
        rows = self._database.execute(f"SELECT {_COLUMNS} FROM found ORDER BY root, place, relative, start")
        for path, relative, name, speaker, size, mtime, member, at, start, stop, key, mel in rows:
            yield Source(
                path=Path(os.fsdecode(path)),
                relative=relative,
                name=name,
                speaker=speaker,
                size_bytes=size,
                mtime_ns=mtime,
                member=member,
                place=at,
                start_s=start,
                stop_s=None if stop == _FULL_RECORDING else stop,
                key=key.hex(),
                mel=None if mel is None else Path(os.fsdecode(mel)),
            )

    def add(self, root: Path, found: Iterable[Found], mels: GivenMels | None = None) -> None:
        """Add what an input has; a recording that is there already, by whatever way to it, is passed over.

        Args:
            root: the input's folder or file; those of one root have one order.
            found: its recordings.
            mels: those that were made of recordings.
        """
        number = self._roots.setdefault(root, len(self._roots))
        real_folders: dict[str, str] = {}  # of the folder that was seen last: files come folder by folder

        def rows() -> Iterator[tuple[object, ...]]:
            for one in found:
                name = one.identity or _without_suffix(one)
                stop = _FULL_RECORDING if one.stop_s is None else one.stop_s
                mel = mels.of(one.identity, _without_suffix(one)) if mels else None
                yield (
                    number, one.order, os.fsencode(one.path), readable(one.relative), readable(name),
                    readable(one.speaker), one.size_bytes, one.mtime_ns, readable(one.member), one.place,
                    one.start_s, stop, _key(root, one, mel), mel and os.fsencode(mel),
                    os.fsencode(_real(one.path, real_folders)),
                )  # fmt: skip

        marks = ", ".join("?" * 15)
        self._database.executemany(f"INSERT OR IGNORE INTO found VALUES ({marks})", rows())

    def n_mels(self) -> int:
        """How many recordings have a mel."""
        return int(self._database.execute("SELECT COUNT(mel) FROM found").fetchone()[0])

    def digest(self) -> str:
        """Tells whether two plans mean the same recordings."""
        digest = hashlib.blake2b(digest_size=16)
        for (key,) in self._database.execute("SELECT key FROM found ORDER BY root, place, relative, start"):
            digest.update(key)
        return digest.hexdigest()

    def drop_known(self, known: Iterable[tuple[bytes, str]]) -> int:
        """Pass over what a dataset has already, and keep its names from being given again.

        Args:
            known: the key of a source and the name of a clip made of it, for each clip.

        Returns:
            How many recordings were passed over.
        """
        self._database.execute("CREATE TABLE known (key BLOB, name TEXT)")
        self._database.executemany("INSERT INTO known VALUES (?, ?)", known)
        self._database.execute("INSERT OR IGNORE INTO taken SELECT name FROM known")
        self._database.execute("CREATE INDEX known_keys ON known (key)")
        gone = self._database.execute("DELETE FROM found WHERE key IN (SELECT key FROM known)").rowcount
        self._database.execute("DROP TABLE known")
        return int(gone)

    def name_all(self) -> None:
        """Give each recording a name that no other has.

        It is the path below the input without its suffix, or the input's own name for it. Where that would give
        two one name, the suffix stays or the input's name goes before; at last a number follows.
        """
        execute = self._database.execute
        execute("CREATE INDEX names ON found (name)")
        while execute(_ALIKE).rowcount > 0:
            execute("UPDATE found SET name = relative WHERE rowid IN (SELECT row FROM alike)")
            execute("DELETE FROM alike")
        shared = "SELECT 1 FROM found GROUP BY name HAVING MIN(root) <> MAX(root) LIMIT 1"
        if len(self._roots) > 1 and execute(shared).fetchone():
            labels = _labels(list(self._roots))
            relabel = "UPDATE found SET name = ? || name, speaker = ? || speaker WHERE root = ?"
            for root, number in self._roots.items():
                label = f"{labels[root]}/"
                execute(relabel, (label, label, number))
        self._number()
        execute("CREATE INDEX places ON found (root, place)")

    def _number(self) -> None:
        """Put a number after a name that is taken: two names' odd bytes may read the same."""
        execute = self._database.execute
        repeated = """
            SELECT found.rowid, found.name FROM found LEFT JOIN taken ON taken.name = found.name
            WHERE taken.name IS NOT NULL OR found.name IN (SELECT name FROM found GROUP BY name HAVING COUNT(*) > 1)
            ORDER BY root, place, relative, start"""
        used = set[str]()
        for row, name in execute(repeated).fetchall():
            new, number = name, 1
            while (
                new in used
                or execute("SELECT 1 FROM taken WHERE name = ?", (new,)).fetchone()
                or (number > 1 and execute("SELECT 1 FROM found WHERE name = ?", (new,)).fetchone())
            ):
                number += 1
                new = f"{name} ({number})"
            used.add(new)
            if new != name:
                execute("UPDATE found SET name = ? WHERE rowid = ?", (new, row))


def _key(root: Path, one: Found, mel: Path | None) -> bytes:
    """What a recording is known by: where it lies below its input, the input's name for it, its size, time and mel."""
    stretch = f"{one.start_s!r}\0{one.stop_s!r}\0{one.size_bytes}\0{one.mtime_ns}"
    text = f"{root.name}\0{one.relative}\0{one.member}\0{one.place}\0{stretch}\0{one.speaker}\0{one.identity}"
    text += "" if mel is None else f"\0{mel.name}\0{stamp_of(mel)}"
    return hashlib.blake2b(os.fsencode(text), digest_size=16).digest()


def _without_suffix(one: Found) -> str:
    name = str(PurePosixPath(one.relative).with_suffix(""))
    return name if one.start_s == 0 and one.stop_s is None else stretch_name(name, one.start_s, one.stop_s)


def stretch_name(name: str, start_s: float, stop_s: float | None) -> str:
    """The name of a stretch of a recording, with its times in seconds."""
    return f"{name}@{start_s:.3f}-" + ("" if stop_s is None else f"{stop_s:.3f}")


def _real(path: Path, folders: dict[str, str]) -> str:
    """A path without links; a folder's is looked up once for its files. One that no file can have stays as it is."""
    if "\0" in str(path):
        return str(path)
    folder = os.path.dirname(path)  # noqa: PTH120 - half the time of pathlib, for each of a million files
    if folder not in folders:
        folders.clear()
        folders[folder] = os.path.realpath(folder)
    if os.path.islink(path):  # noqa: PTH114
        return os.path.realpath(path)
    return os.path.join(folders[folder], os.path.basename(path))  # noqa: PTH118, PTH119


def _labels(folders: list[Path]) -> dict[Path, str]:
    """A distinct name for each folder: as many of its last parts as that takes."""
    depth = 1
    while len({folder.parts[-depth:] for folder in folders}) < len(folders):
        depth += 1
    return {folder: readable("/".join(folder.parts[-depth:])) for folder in folders}
