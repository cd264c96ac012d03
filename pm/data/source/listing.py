"""The photos of a source, listed before anything is opened, and sorted on disk.

The list lies in a temporary SQLite file, so that memory does not grow with the number of photos.
"""

import hashlib
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pm.data.records import Photo
from pm.data.source.choice import SourceChoice
from pm.data.source.tree import LAYOUT
from pm.errors import DataError

_TABLE = """CREATE TABLE files (identity TEXT, name TEXT, photo INTEGER, size INTEGER, source TEXT, licence TEXT,
sha256 TEXT, PRIMARY KEY (identity, name)) WITHOUT ROWID"""


class Listing:
    """All photos of a source; nothing is opened but tars, whose headers are read.

    Attributes:
        found: number of photos.
        digest: 16 hex digits of their names and sizes, and those of their sidecars.
        ignored: number of other files by suffix; they are neither photos nor sidecars.

    Raises:
        DataError: the root is missing, not a folder, or has no photo in any identity folder.
    """

    def __init__(self, source: SourceChoice):
        self.ignored: Counter[str] = Counter()
        self._licence = source.licence or ""
        self._folder = tempfile.TemporaryDirectory(prefix="photomaker-listing-")
        self._db = sqlite3.connect(Path(self._folder.name, "files.sqlite"))
        self._db.execute("PRAGMA synchronous=OFF")
        self._db.execute("PRAGMA journal_mode=OFF")
        self._db.execute(_TABLE)
        rows = source.found(self.ignored)
        self._db.executemany("INSERT OR IGNORE INTO files VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        self.found, named = self._db.execute(
            "SELECT count(*), count(CASE WHEN identity != '' THEN 1 END) FROM files WHERE photo"
        ).fetchone()
        if not named:
            where = f"only {self.found} photos outside any identity folder" if self.found else "no photos"
            raise DataError(f"{source.place} has {where}; {LAYOUT}")
        self.digest = self._digest()

    def __enter__(self) -> "Listing":
        return self

    def __exit__(self, *_: Any) -> None:
        self._db.close()
        self._folder.cleanup()

    def photos(self) -> Iterator[Photo]:
        """Sorted by identity and name."""
        columns = "identity, name, source, licence, sha256"
        for row in self._db.execute(f"SELECT {columns} FROM files WHERE photo ORDER BY identity, name"):
            identity, name, source, licence, sha256 = row
            yield Photo(identity, name, source=source, licence=licence or self._licence, expected_sha256=sha256)

    def _digest(self) -> str:
        digest = hashlib.sha256()
        for row in self._db.execute("SELECT identity, name, size, sha256, licence FROM files ORDER BY identity, name"):
            digest.update("\0".join(map(str, row)).encode() + b"\n")
        return digest.hexdigest()[:16]

    def identities(self) -> Iterator[str]:
        """The folders' names, sorted."""
        for (identity,) in self._db.execute("SELECT DISTINCT identity FROM files WHERE photo ORDER BY identity"):
            yield identity
