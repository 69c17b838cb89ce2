"""A mapping that lies on disk, since a corpus's own lists may be larger than memory."""

import sqlite3
from collections.abc import Iterable


class Lookup:
    """Text by text."""

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._database = sqlite3.connect("", check_same_thread=False)  # a file that goes with the connection
        self._database.execute("CREATE TABLE pairs (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID")
        with self._database:
            self._database.executemany("INSERT OR REPLACE INTO pairs VALUES (?, ?)", pairs)

    def get(self, key: str) -> str | None:
        """The value of a key; None where there is none."""
        row = self._database.execute("SELECT value FROM pairs WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])
