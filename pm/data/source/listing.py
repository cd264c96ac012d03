"""The photos of a source, listed before anything is opened, and sorted on disk.

The list lies in a temporary SQLite file, so that memory does not grow with the number of photos.
"""

import dataclasses
import json
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pm.data.consent.files import Consents, is_consent_file
from pm.data.consent.record import NOTHING, REASONS, VALID, Consent
from pm.data.records import Photo
from pm.data.source.changes import COLUMNS, Changes, compare, digest_of, rows_of, write_sources
from pm.data.source.choice import SourceChoice
from pm.data.source.rules import NO_RULES, Rules
from pm.data.source.store import read_bytes
from pm.data.source.tree import LAYOUT
from pm.errors import DataError

_TABLE = """CREATE TABLE files (identity TEXT, name TEXT, photo INTEGER, size INTEGER, changed INTEGER, source TEXT,
licence TEXT, sha256 TEXT, consent TEXT, note TEXT, folder TEXT, PRIMARY KEY (identity, name)) WITHOUT ROWID"""
_SAID = """CREATE TABLE said (identity TEXT, name TEXT, licence TEXT, source TEXT, consent TEXT, note TEXT,
PRIMARY KEY (identity, name)) WITHOUT ROWID"""
_CONSENT = "consent"  # the stage whose rejects these are


class Listing:
    """All photos of a source; nothing is opened but tars, whose headers are read, and files of consents.

    Args:
        source: where the photos are.
        rules: what is said about them elsewhere.
        before: `sources.parquet` of a dataset that was made of them; None: there is none.

    Attributes:
        found: number of photos.
        digest: 16 hex digits of their names and sizes, and those of their sidecars, and what is said of them by hand.
        ignored: number of other files by suffix; they are neither photos nor sidecars.
        changes: since `before`; None without it.
        left_out: number of files of people who were removed (`photomaker forget`).

    Raises:
        DataError: the root is missing, not a folder, or has no photo in any identity folder; a file of consents is
            wrong.
    """

    def __init__(self, source: SourceChoice, rules: Rules = NO_RULES, before: Path | None = None):
        self.ignored: Counter[str] = Counter()
        self.left_out = 0
        self.changes: Changes | None = None
        self._source, self._rules = source, rules
        self._open()
        consents: list[tuple[str, str]] = []
        rows = self._rows(consents)
        self._db.executemany("INSERT OR IGNORE INTO files VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
        self._leave_out(before)
        self._note(self._consents(consents))
        if before is not None:
            self.changes = compare(self._db, before, same_place=rules.same_place)
        if not self._counted():
            raise DataError(f"{source.place} has {self._nothing()}; {LAYOUT}")

    def _open(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="photomaker-listing-")
        self._db = sqlite3.connect(Path(self._folder.name, "files.sqlite"))
        self._db.execute("PRAGMA synchronous=OFF")
        self._db.execute("PRAGMA journal_mode=OFF")
        self._db.execute(_TABLE)

    def _counted(self) -> int:
        """Number of photos in identity folders; notes that of all, and the digest."""
        self.found, named = self._db.execute(
            "SELECT count(*), count(CASE WHEN identity != '' THEN 1 END) FROM files WHERE photo"
        ).fetchone()
        self.digest = digest_of(self._db.execute(f"SELECT {', '.join(COLUMNS)} FROM files ORDER BY identity, name"))
        return int(named)

    def __enter__(self) -> "Listing":
        return self

    def __exit__(self, *_: Any) -> None:
        self._db.close()
        self._folder.cleanup()

    def photos(self, *, changed: bool = False) -> Iterator[Photo]:
        """Sorted by identity and name; `changed`: only people of whom something has changed since `before`."""
        where = " AND identity IN (SELECT identity FROM redo)" if changed else ""
        columns = "identity, name, source, licence, sha256, note"
        for row in self._db.execute(f"SELECT {columns} FROM files WHERE photo{where} ORDER BY identity, name"):
            identity, name, source, licence, sha256, note = row
            photo = Photo(identity, name, source=source, licence=licence, expected_sha256=sha256)
            yield _as_said(photo, json.loads(note)) if note else photo

    def identities(self) -> Iterator[str]:
        """The folders' names, sorted."""
        for (identity,) in self._db.execute("SELECT DISTINCT identity FROM files WHERE photo ORDER BY identity"):
            yield identity

    def count(self, *, changed: bool = False) -> int:
        """Number of photos; `changed` as in `photos`."""
        if not changed:
            return self.found
        query = "SELECT count(*) FROM files WHERE photo AND identity IN (SELECT identity FROM redo)"
        return int(self._db.execute(query).fetchone()[0])

    def redone(self) -> list[str]:
        """Of whom something has changed since `before`, also those who are gone."""
        return [identity for (identity,) in self._db.execute("SELECT identity FROM redo ORDER BY identity")]

    def write_sources(self, path: Path) -> None:
        """Keep the list for the next time, see `Changes`."""
        write_sources(self._db.execute(f"SELECT {', '.join(COLUMNS)} FROM files ORDER BY identity, name"), path)

    def _rows(self, consents: list[tuple[str, str]]) -> Iterator[tuple]:
        """Rows of the table; files of consents go into `consents`, with the person in whose folder they are."""
        effects, licence = self._rules.effects, self._source.licence or ""
        for found in self._source.found(self.ignored):
            if not found.photo and is_consent_file(found.name):
                consents.append((found.name, found.identity))
                continue
            who = effects.person(found.identity, found.name)
            if self._rules.is_gone(found.identity) or self._rules.is_gone(who):
                self.left_out += found.photo
                continue
            said = "" if found.consent == NOTHING else _as_json(found.consent)
            yield (who, found.name, bool(found.photo), found.size, found.changed, found.source) + (
                found.licence or licence,
                found.sha256,
                said,
                "",
                found.identity,
            )

    def _leave_out(self, before: Path | None) -> None:
        """Photos that were removed by their content; those of `before` are not among them."""
        if not self._rules.gone_photos:
            return
        known = set() if before is None else _names(before)
        gone = []
        for identity, name in self._db.execute("SELECT identity, name FROM files WHERE photo"):
            if name not in known and self._rules.is_gone_photo(self._bytes(name)):
                gone.append((identity, name))
        self._db.executemany("DELETE FROM files WHERE identity = ? AND name = ?", gone)
        self.left_out += len(gone)

    def _bytes(self, name: str) -> bytes:
        try:
            return read_bytes(str(self._source.root), name)
        except (OSError, ValueError):
            return b""

    def _consents(self, files: list[tuple[str, str]]) -> Consents:
        found = Consents()
        for name, person in sorted(files):
            found.add(name, person, read_bytes(str(self._source.root), name))
        return found

    def _note(self, consents: Consents) -> None:
        """What is said of the photos elsewhere, into their rows."""
        rules = self._rules
        self._db.execute(_SAID)
        query = "SELECT identity, name, licence, source, consent, folder FROM files WHERE photo"

        def said() -> Iterator[tuple]:
            for identity, name, licence, source, own, folder in self._db.execute(query):
                consent = consents.of(folder, name).over(consents.people.get(identity, NOTHING))
                consent = from_json(own).over(consent) if own else consent
                note = rules.effects.note(name)
                if rules.purpose is not None and (state := consent.state(rules.purpose, rules.today)) != VALID:
                    note = json.dumps((json.loads(note) if note else {}) | {_CONSENT: [state, consent.detail(state)]})
                if note or not consent.empty:
                    kept = "" if consent.empty else _as_json(consent)
                    yield identity, name, consent.licence or licence, consent.source or source, kept, note

        self._db.executemany("INSERT INTO said VALUES (?, ?, ?, ?, ?, ?)", said())
        self._db.execute(
            "UPDATE files SET licence = s.licence, source = s.source, consent = s.consent, note = s.note FROM said s "
            "WHERE files.identity = s.identity AND files.name = s.name"
        )

    def _nothing(self) -> str:
        if self.left_out:
            return f"no photos but {self.left_out} of people who were removed (photomaker forget)"
        return f"only {self.found} photos outside any identity folder" if self.found else "no photos"


class KeptListing(Listing):
    """The list that an unfinished dataset began with, whatever has become of the photos since.

    Args:
        sources: its `sources.parquet`.
    """

    def __init__(self, sources: Path):
        self.ignored, self.left_out, self.changes = Counter(), 0, None
        self._open()
        names, places = ", ".join(COLUMNS), ", ".join("?" * len(COLUMNS))
        self._db.executemany(f"INSERT INTO files ({names}) VALUES ({places})", rows_of(pq.read_table(sources)))
        self._counted()


def from_json(text: str) -> Consent:
    """The inverse of what `sources.parquet` has under `consent`; "" is nothing."""
    values = json.loads(text) if text else {}
    return Consent(**{**values, "purposes": tuple(values.get("purposes", ()))})


def _as_json(consent: Consent) -> str:
    return json.dumps({name: value for name, value in dataclasses.asdict(consent).items() if value})


def _as_said(photo: Photo, note: dict[str, Any]) -> Photo:
    photo = dataclasses.replace(
        photo,
        keep="keep" in note,
        hand_caption=note.get("caption", ""),
        hand_word=note.get("class_word", ""),
    )
    if _CONSENT in note:
        state, detail = note[_CONSENT]
        return photo.rejected(_CONSENT, REASONS[state], detail=detail)
    return photo.rejected("ingest", "by_hand", detail=note["reject"]) if "reject" in note else photo


def _names(sources: Path) -> set[str]:
    return set(pq.read_table(sources, columns=["name"]).column("name").to_pylist())
