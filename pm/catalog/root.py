"""A folder, or a place in a bucket, below which everything may be read and above which nothing is."""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pyarrow import fs

from pm.errors import DataError, reason
from pm.train.run.storage import RemoteFolder, is_uri

_SKIPPED = {"checkpoints", "wandb", "_work", "pictures", "values", "states", "profile"}  # nothing to find in there
_DEPTH = 4
_MOST = 512 * 2**20  # bytes of a file that is read whole


@dataclass(frozen=True)
class Entry:
    """One file."""

    name: str  # below the root, with forward slashes
    size: int
    changed: float  # seconds since the epoch; 0: unknown


class Root:
    """Everything below one place.

    Args:
        place: a folder, or a URI that pyarrow or fsspec opens.

    Raises:
        ConfigError: nothing can open such a URI.
    """

    def __init__(self, place: str):
        self.place, self.local = place, not is_uri(place)
        if self.local:
            self.folder = Path(place).expanduser().absolute()
            self._files: fs.FileSystem = fs.LocalFileSystem()
            self._path = str(self.folder)
        else:
            remote = RemoteFolder(place)
            self._files, self._path = remote.filesystem, remote.path.rstrip("/")

    def find(self, names: Collection[str] = (), suffix: str | None = None) -> Iterator[Entry]:
        """Files of these names or with this suffix, at most `_DEPTH` folders down; not in checkpoints and the like."""
        yield from self._find(self._path, names, suffix, _DEPTH)

    def _find(self, path: str, names: Collection[str], suffix: str | None, depth: int) -> Iterator[Entry]:
        below = []
        for info in self._listed(path):
            if info.type == fs.FileType.Directory:
                if depth and info.base_name not in _SKIPPED and not info.base_name.startswith((".", "_")):
                    below.append(info.path)
            elif info.base_name in names or (suffix is not None and info.base_name.endswith(suffix)):
                yield self._entry(info)
        for folder in sorted(below):
            yield from self._find(folder, names, suffix, depth - 1)

    def entries(self, folder: str) -> list[Entry]:
        """The files in one folder, by name; none where it is not there."""
        found = self._listed(self._below(folder))
        return sorted((self._entry(i) for i in found if i.type == fs.FileType.File), key=lambda e: e.name)

    def stat(self, name: str) -> Entry | None:
        """One file; None where it is not there."""
        info = self._files.get_file_info(self._below(name))
        return self._entry(info) if info.type == fs.FileType.File else None

    def read(self, name: str) -> bytes:
        """A file's contents.

        Raises:
            DataError: it is not there, leads out of the root, or is larger than any that is read.
        """
        found = self.stat(name)
        if found is None:
            raise DataError(f"{name} is not in {self.place}")
        if found.size > _MOST:
            raise DataError(f"{name} has {found.size} bytes; more than {_MOST} are not read")
        with self._files.open_input_stream(self._below(name)) as stream:
            return stream.read()

    def open(self, name: str) -> Any:
        """A file to read parts of, as pyarrow has it.

        Raises:
            DataError: as `read`.
        """
        if self.stat(name) is None:
            raise DataError(f"{name} is not in {self.place}")
        return self._files.open_input_file(self._below(name))

    def within(self, name: str) -> str:
        """The path of a name below a root of this machine.

        Raises:
            DataError: it leads out of the root.
        """
        return self._below(name)

    def _below(self, name: str) -> str:
        """The file system's path of a name.

        Raises:
            DataError: it leads out of the root.
        """
        parts = PurePosixPath(name).parts
        if name.startswith("/") or ".." in parts or "\0" in name or re.search(r"[\\:]", name):
            raise DataError(f"{name[:80]!r} is no name below {self.place}")
        path = "/".join([self._path, *parts])
        if self.local and not Path(path).resolve().is_relative_to(self.folder.resolve()):
            raise DataError(f"{name[:80]!r} leads out of {self.place}")
        return path

    def _listed(self, path: str) -> list[fs.FileInfo]:
        try:
            return self._files.get_file_info(fs.FileSelector(path, allow_not_found=True))
        except Exception as error:  # each file system has its own
            raise DataError(f"{self.place} cannot be read ({reason(error)})") from None

    def _entry(self, info: fs.FileInfo) -> Entry:
        changed = info.mtime_ns / 1e9 if info.mtime_ns else 0.0
        return Entry(info.path[len(self._path) :].lstrip("/"), info.size or 0, changed)
