"""What lies on disk, since a corpus's own lists may be larger than memory."""

import os
import sqlite3
import weakref
from collections.abc import Iterable


def scratch_database(owner: object) -> sqlite3.Connection:
    """A database in a file without a name, for one thread at a time, that goes with its owner."""
    database = sqlite3.connect("", check_same_thread=False, isolation_level=None)
    weakref.finalize(owner, database.close)
    return database


class Lookup:
    """Text by text, of any bytes; a key that is given several times has its first value."""

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._database = scratch_database(self)
        self._database.execute(
            "CREATE TABLE pairs (key BLOB PRIMARY KEY, value BLOB, count INTEGER) WITHOUT ROWID"
        )
        self._database.execute("BEGIN")
        self._database.executemany(
            "INSERT INTO pairs VALUES (?, ?, 1) ON CONFLICT (key) DO UPDATE SET count = count + 1",
            ((os.fsencode(key), os.fsencode(value)) for key, value in pairs),
        )
        self._database.execute("COMMIT")

    def __len__(self) -> int:
        return int(self._database.execute("SELECT COUNT(*) FROM pairs").fetchone()[0])

    def get(self, key: str) -> str | None:
        """The value of a key; None where there is none."""
        row = self._database.execute("SELECT value FROM pairs WHERE key = ?", (os.fsencode(key),)).fetchone()
        return None if row is None else os.fsdecode(row[0])

    def count(self, key: str) -> int:
        """How often a key was given."""
        row = self._database.execute("SELECT count FROM pairs WHERE key = ?", (os.fsencode(key),)).fetchone()
        return 0 if row is None else int(row[0])
