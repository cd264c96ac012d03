"""The photos of a source, listed before anything is opened, and sorted on disk.

The list lies in a temporary SQLite file, so that memory does not grow with the number of photos. Identities are the
folders below the root; in tars the folders of the members, or the `identity` that a sample's JSON names.
"""

import hashlib
import json
import os
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow.fs

from pm.data.config import SourceConfig
from pm.data.records import Photo
from pm.data.source.manifest import manifest_rows
from pm.data.source.store import filesystem, is_remote, read_bytes, tar_members
from pm.errors import DataError
from pm.photo.pixels import PHOTO_SUFFIXES

SIDECAR_SUFFIXES = frozenset((".json", ".txt"))
_LAYOUT = "photos are expected at <root>/<person>_<class word>/<photo>, for example faces/anna_woman/1.jpg"
_TABLE = """CREATE TABLE files (identity TEXT, name TEXT, photo INTEGER, size INTEGER, source TEXT, licence TEXT,
sha256 TEXT, PRIMARY KEY (identity, name)) WITHOUT ROWID"""


@dataclass(frozen=True)
class _File:
    name: str  # path below the root
    size: int  # bytes; -1 where it cannot be told


class Listing:
    """All photos of a source; nothing is opened but tars, whose headers are read.

    Attributes:
        found: number of photos.
        digest: 16 hex digits of their names and sizes, and those of their sidecars.
        ignored: number of other files by suffix; they are neither photos nor sidecars.

    Raises:
        DataError: the root is missing, not a folder, or has no photo in any identity folder.
    """

    def __init__(self, source: SourceConfig):
        self.ignored: Counter[str] = Counter()
        self._licence = source.licence or ""
        self._folder = tempfile.TemporaryDirectory(prefix="photomaker-listing-")
        self._db = sqlite3.connect(Path(self._folder.name, "files.sqlite"))
        self._db.execute("PRAGMA synchronous=OFF")
        self._db.execute("PRAGMA journal_mode=OFF")
        self._db.execute(_TABLE)
        rows = self._from_manifest(source) if source.manifest else self._from_root(str(source.root))
        self._db.executemany("INSERT OR IGNORE INTO files VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        self.found, named = self._db.execute(
            "SELECT count(*), count(CASE WHEN identity != '' THEN 1 END) FROM files WHERE photo"
        ).fetchone()
        if not named:
            where = f"only {self.found} photos outside any identity folder" if self.found else "no photos"
            raise DataError(f"dataset.{_place(source)} has {where}; {_LAYOUT}")
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

    def _from_root(self, root: str) -> Iterator[tuple]:
        files = _remote_files(root) if is_remote(root) else _local_files(Path(root))
        for file in files:
            if file.name.endswith(".tar"):
                yield from self._from_tar(root, file.name)
                continue
            kind = self._kind(file.name)
            if kind is not None:
                first, _, rest = file.name.partition("/")
                source = f"{root.partition('?')[0].rstrip('/')}/{file.name}" if is_remote(root) else file.name
                yield (first if rest else "", file.name, kind, file.size, source, "", "")

    def _from_tar(self, root: str, tar: str) -> Iterator[tuple]:
        """WebDataset: files of one sample differ after the first point of their name."""
        try:
            members = list(tar_members(root, tar))
        except OSError as error:
            raise DataError(f"{tar} below dataset.root={root} cannot be read as a tar: {error}") from error
        names = {member for member, _, _ in members}
        for member, _, size in members:
            kind = self._kind(member)
            if kind is not None and not any(part.startswith(".") for part in member.split("/")):
                first, _, rest = member.partition("/")
                identity = first if rest else _identity_beside(root, tar, member, names)
                yield (identity, f"{tar}/{member}", kind, size, f"{tar}/{member}", "", "")

    def _from_manifest(self, source: SourceConfig) -> Iterator[tuple]:
        for row in manifest_rows(source.manifest):
            yield (row.identity, row.name, True, 0, row.url, row.licence, row.sha256)

    def _kind(self, name: str) -> bool | None:
        """True: a photo; False: a sidecar; None: something else, counted."""
        suffix = "folder that cannot be read" if name.endswith("/") else PurePosixPath(name).suffix.lower()
        if suffix in PHOTO_SUFFIXES or suffix in SIDECAR_SUFFIXES:
            return suffix in PHOTO_SUFFIXES
        self.ignored[suffix or "no suffix"] += 1
        return None


def _place(source: SourceConfig) -> str:
    return f"manifest={source.manifest}" if source.manifest else f"root={source.root}"


def _local_files(root: Path) -> Iterator[_File]:
    if not (root.is_dir() and os.access(root, os.R_OK | os.X_OK)):
        raise DataError(f"dataset.root={root} is not a folder that can be read; {_LAYOUT}")
    yield from _walk(root, "", frozenset())


def _walk(folder: Path, inside: str, above: frozenset[tuple[int, int]]) -> Iterator[_File]:
    """Files below a folder, through links too; a link back to a folder above is not followed."""
    try:
        status = folder.stat()
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:  # counted among the files that are no photos
        yield _File(inside, -1)
        return
    here = (status.st_dev, status.st_ino)
    if here in above:
        return
    for entry in entries:
        if entry.name.startswith((".", "__MACOSX")):
            continue
        try:
            entry.name.encode()
        except UnicodeEncodeError:  # no Arrow string can hold it: a printable name, under which it cannot be opened
            yield _File(f"{inside}{os.fsencode(entry.name).decode('utf-8', 'backslashreplace')}", -1)
            continue
        if _is_folder(entry):
            yield from _walk(folder / entry.name, f"{inside}{entry.name}/", above | {here})
            continue
        try:
            size = entry.stat().st_size
        except OSError:  # a link to nowhere or to itself
            size = -1
        yield _File(f"{inside}{entry.name}", size)


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _remote_files(root: str) -> Iterator[_File]:
    """Files below a prefix, one identity at a time: a bucket's whole listing may not fit into memory."""
    files, base = filesystem(root)
    try:
        entries = files.get_file_info(pyarrow.fs.FileSelector(base))
        for entry in sorted(entries, key=lambda info: info.path):
            inside = [entry]
            if entry.type == pyarrow.fs.FileType.Directory:
                inside = files.get_file_info(pyarrow.fs.FileSelector(entry.path, recursive=True))
            for info in inside:
                if info.type == pyarrow.fs.FileType.File and not info.base_name.startswith("."):
                    yield _File(info.path.removeprefix(f"{base}/"), info.size)
    except OSError as error:
        raise DataError(f"dataset.root={root} cannot be listed: {error}; {_LAYOUT}") from error


def _identity_beside(root: str, tar: str, member: str, names: set[str]) -> str:
    """The identity that a sample's JSON names; "" without one."""
    beside = member.partition(".")[0] + ".json"
    if beside not in names:
        return ""
    try:
        identity = json.loads(read_bytes(root, f"{tar}/{beside}")).get("identity")
    except (OSError, ValueError, AttributeError):
        return ""
    return identity.replace("/", "_") if isinstance(identity, str) else ""
