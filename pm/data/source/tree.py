"""What lies below the root of a source: files, their kind, and the identity that their place says."""

import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pyarrow.fs

from pm.data.consent.files import is_consent_file
from pm.data.source.choice import Found
from pm.data.source.store import filesystem, is_remote, read_bytes, tar_members
from pm.errors import DataError
from pm.photo.pixels import PHOTO_SUFFIXES

SIDECAR_SUFFIXES = frozenset((".json", ".txt"))
LAYOUT = "photos are expected at <root>/<person>_<class word>/<photo>, for example faces/anna_woman/1.jpg"


@dataclass(frozen=True)
class File:
    """A file below a root."""

    name: str  # path below the root
    size: int  # bytes; -1 where it cannot be told
    changed: int = 0  # when, ns since 1970; 0: it cannot be told


def found_below(root: str, ignored: Counter[str]) -> Iterator[Found]:
    """Photos and sidecars below a folder or a prefix, also inside tars (WebDataset shards).

    Args:
        ignored: counts the other files, by suffix.

    Raises:
        DataError: the root is missing or cannot be read, or a tar is none.
    """
    for file in remote_files(root) if is_remote(root) else local_files(Path(root)):
        if file.name.endswith(".tar"):
            yield from _in_tar(root, file.name, ignored)
        elif (photo := _is_photo(file.name, ignored)) is not None:
            first, _, rest = file.name.partition("/")
            source = f"{root.partition('?')[0].rstrip('/')}/{file.name}" if is_remote(root) else file.name
            yield Found(first if rest else "", file.name, photo, file.size, source, changed=file.changed)


def _in_tar(root: str, tar: str, ignored: Counter[str]) -> Iterator[Found]:
    """WebDataset: files of one sample differ after the first point of their name."""
    try:
        members = list(tar_members(root, tar))
    except OSError as error:
        raise DataError(f"{tar} below dataset.root={root} cannot be read as a tar: {error}") from error
    names = {member for member, _, _ in members}
    for member, _, size in members:
        photo = _is_photo(member, ignored)
        if photo is not None and not any(part.startswith(".") for part in member.split("/")):
            first, _, rest = member.partition("/")
            identity = first if rest else _identity_beside(root, tar, member, names)
            yield Found(identity, f"{tar}/{member}", photo, size, f"{tar}/{member}")


def _is_photo(name: str, ignored: Counter[str]) -> bool | None:
    """True: a photo; False: a sidecar; None: something else, counted."""
    if is_consent_file(name):
        return False
    suffix = "folder that cannot be read" if name.endswith("/") else PurePosixPath(name).suffix.lower()
    if suffix in PHOTO_SUFFIXES or suffix in SIDECAR_SUFFIXES:
        return suffix in PHOTO_SUFFIXES
    ignored[suffix or "no suffix"] += 1
    return None


def local_files(root: Path) -> Iterator[File]:
    if not (root.is_dir() and os.access(root, os.R_OK | os.X_OK)):
        raise DataError(f"dataset.root={root} is not a folder that can be read; {LAYOUT}")
    yield from _walk(root, "", frozenset())


def _walk(folder: Path, inside: str, above: frozenset[tuple[int, int]]) -> Iterator[File]:
    """Files below a folder, through links too; a link back to a folder above is not followed."""
    try:
        status = folder.stat()
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:  # counted among the files that are no photos
        yield File(inside, -1)
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
            yield File(f"{inside}{os.fsencode(entry.name).decode('utf-8', 'backslashreplace')}", -1)
            continue
        if _is_folder(entry):
            yield from _walk(folder / entry.name, f"{inside}{entry.name}/", above | {here})
            continue
        try:
            status = entry.stat()
            size, changed = status.st_size, status.st_mtime_ns
        except OSError:  # a link to nowhere or to itself
            size, changed = -1, 0
        yield File(f"{inside}{entry.name}", size, changed)


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def remote_files(root: str) -> Iterator[File]:
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
                    yield File(info.path.removeprefix(f"{base}/"), info.size, info.mtime_ns or 0)
    except OSError as error:
        raise DataError(f"dataset.root={root} cannot be listed: {error}; {LAYOUT}") from error


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
