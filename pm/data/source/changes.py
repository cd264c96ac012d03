"""What came, went or changed among the files of a source since a dataset was made of them; in SQLite, see `Listing`."""

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pm.errors import counted
from pm.files import replace_file

SOURCES_SCHEMA = pa.schema(
    [("identity", pa.string()), ("name", pa.string()), ("photo", pa.bool_()), ("size", pa.int64())]
    # `changed`: ns since 1970; `consent`: JSON; `note`: what is said by hand, and what is wrong with the consent, JSON.
    + [("changed", pa.int64()), *((name, pa.string()) for name in ("source", "licence", "sha256", "consent", "note"))]
)
COLUMNS = tuple(SOURCES_SCHEMA.names)
_BATCH = 8192  # rows
_NAMED = 3  # photos in a message
_WAS = """CREATE TABLE was (identity TEXT, name TEXT, photo INTEGER, size INTEGER, changed INTEGER, source TEXT,
licence TEXT, sha256 TEXT, consent TEXT, note TEXT, PRIMARY KEY (identity, name)) WITHOUT ROWID"""
_DIFFERENT = """f.size != w.size OR f.source != w.source OR f.licence != w.licence OR f.sha256 != w.sha256
OR f.note != w.note"""
_TOUCHED = " OR (f.changed != w.changed AND f.changed AND w.changed)"


@dataclass(frozen=True)
class Changes:
    """Numbers of photos, and who has to be done again."""

    came: int
    went: int
    changed: int  # other content, licence, consent or corrections by hand
    beside: int  # sidecars that came, went or changed
    people: int  # who have any of these
    consents: int  # photos of which only the consent was written differently; nobody is done again for that
    left: int  # photos that are as they were, whoever's
    before: int  # photos there were
    state: str  # 16 hex digits of the changes
    names: dict[str, tuple[str, ...]]  # some photos: came, went, changed

    def __bool__(self) -> bool:
        return self.people > 0

    def text(self) -> str:
        """One line."""
        said = []
        for kind in ("came", "went", "changed"):
            if number := getattr(self, kind):
                names = ", ".join(self.names[kind]) + (", ..." if number > _NAMED else "")
                said.append(f"{counted(number, 'photo')} {kind} ({names})")
        if self.beside:
            said.append(f"{counted(self.beside, 'file')} beside photos came, went or changed")
        return "; ".join(said)

    def record(self) -> dict[str, int]:
        """For `dataset.json`: numbers, no names."""
        return {name: getattr(self, name) for name in ("came", "went", "changed", "beside", "people")}


def compare(db: sqlite3.Connection, before: Path, *, same_place: bool) -> Changes:
    """Compare the table `files` with a `sources.parquet`; makes the table `redo` of the people concerned.

    Args:
        same_place: the files are where they were, so when they were changed counts; copies have other times.
    """
    db.execute(_WAS)
    places = ", ".join("?" * len(COLUMNS))
    for batch in pq.ParquetFile(before).iter_batches(batch_size=_BATCH):
        rows = zip(*(batch.column(name).to_pylist() for name in COLUMNS), strict=True)
        db.executemany(f"INSERT OR IGNORE INTO was VALUES ({places})", rows)
    different = f"({_DIFFERENT}{_TOUCHED if same_place else ''})"
    db.execute("CREATE TABLE diff (kind TEXT, identity TEXT, name TEXT, photo INTEGER, mark TEXT)")
    for kind, one, other, where in (
        ("came", "files f", "was w", "w.name IS NULL"),
        ("went", "was f", "files w", "w.name IS NULL"),
        ("changed", "files f", "was w", f"w.name IS NOT NULL AND {different}"),
    ):
        mark = "f.size || ':' || f.changed || ':' || f.note || f.licence || f.source"
        db.execute(
            f"INSERT INTO diff SELECT '{kind}', f.identity, f.name, f.photo, {mark} FROM {one} LEFT JOIN {other} "
            f"ON w.identity = f.identity AND w.name = f.name WHERE {where}"
        )
    db.execute("CREATE TABLE redo AS SELECT DISTINCT identity FROM diff")
    return _counted(db)


def _counted(db: sqlite3.Connection) -> Changes:
    def number(query: str) -> int:
        return int(db.execute(query).fetchone()[0])

    numbers: dict[str, Any] = {}
    names = {}
    for kind in ("came", "went", "changed"):
        numbers[kind] = number(f"SELECT count(*) FROM diff WHERE photo AND kind = '{kind}'")
        some = db.execute(f"SELECT name FROM diff WHERE photo AND kind = '{kind}' ORDER BY name LIMIT {_NAMED}")
        names[kind] = tuple(name for (name,) in some)
    digest = hashlib.sha256()
    for row in db.execute("SELECT * FROM diff ORDER BY kind, identity, name"):
        digest.update(repr(row).encode("utf-8", "backslashreplace"))
    before = number("SELECT count(*) FROM was WHERE photo")
    return Changes(
        **numbers,
        beside=number("SELECT count(*) FROM diff WHERE NOT photo"),
        people=number("SELECT count(*) FROM redo"),
        consents=number(
            "SELECT count(*) FROM files f JOIN was w ON w.identity = f.identity AND w.name = f.name "
            "WHERE f.consent != w.consent"
        ),
        left=before - numbers["went"] - numbers["changed"],
        before=before,
        state=digest.hexdigest()[:16],
        names=names,
    )


def digest_of(rows: Iterable[tuple]) -> str:
    """16 hex digits of rows as `COLUMNS` name them, sorted by identity and name, whenever files were changed."""
    digest = hashlib.sha256()
    for row in rows:
        each = dict(zip(COLUMNS, row, strict=True))
        note = (each["note"],) if each["note"] else ()
        values = (each["identity"], each["name"], each["size"], each["sha256"], each["licence"], *note)
        digest.update("\0".join(map(str, values)).encode() + b"\n")
    return digest.hexdigest()[:16]


def write_sources(rows: Iterator[tuple], path: Path) -> None:
    """Write rows as `COLUMNS` name them, sorted, as `sources.parquet`."""
    with replace_file(path) as temporary, pq.ParquetWriter(temporary, SOURCES_SCHEMA, compression="zstd") as writer:
        while some := list(islice(rows, _BATCH)):
            columns = [list(column) for column in zip(*some, strict=True)]
            columns[2] = [bool(photo) for photo in columns[2]]
            arrays = [pa.array(c, f.type) for c, f in zip(columns, SOURCES_SCHEMA, strict=True)]
            writer.write_table(pa.Table.from_arrays(arrays, schema=SOURCES_SCHEMA))


def rows_of(table: pa.Table) -> list[tuple]:
    """The rows of a `sources.parquet`."""
    return list(zip(*(table.column(name).to_pylist() for name in COLUMNS), strict=True))
