"""Where raw photos lie: a folder or an `s3://` or `gs://` prefix, as single files or inside tars.

A photo's name is its path below the root, with forward slashes; inside a tar the member's path follows:
`faces-000.tar/anna_woman/1.jpg`. Members are read by offset, so photos of one person may lie in several tars.
"""

import functools
import io
import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.fs

from pm import files
from pm.errors import DataError
from pm.photo.pixels import read_photo

_REMOTE = ("s3://", "gs://", "gcs://")
_TAR = ".tar"


def is_remote(root: str | Path) -> bool:
    """Does the root name a bucket?"""
    return str(root).startswith(_REMOTE)


@functools.lru_cache(maxsize=8)
def filesystem(root: str) -> tuple[pyarrow.fs.FileSystem, str]:
    """Arrow's file system of a remote root, and the path in it.

    Credentials are the environment's, as for any S3 or GCS client; the URI may carry `endpoint_override`, `region`
    and `scheme` (Arrow's S3FileSystem), or `anonymous@`.

    Raises:
        DataError: the URI cannot be understood.
    """
    try:
        files, path = pyarrow.fs.FileSystem.from_uri(root)
    except (pa.ArrowException, ValueError, OSError) as error:
        raise DataError(f"dataset.root={root} cannot be opened: {error}; expected s3://bucket/prefix") from error
    return files, path.rstrip("/")


def read_bytes(root: str | Path, name: str) -> bytes:
    """The content of a photo or of a file beside it.

    Raises:
        FileNotFoundError: there is none.
        OSError: it cannot be read, or is no regular file.
    """
    tar, member = _split(str(root), name)
    if tar is not None:
        found = tar_index(str(root), tar).get(member)
        if found is None:
            raise FileNotFoundError(name)
        offset, size = found
        with _open(root, tar) as file:
            file.seek(offset)
            return file.read(size)
    with _open(root, name) as file:
        return file.read()


def size_of(root: str | Path, name: str) -> int:
    """Bytes of a photo, without reading it; the errors of `read_bytes`."""
    tar, member = _split(str(root), name)
    if tar is not None:
        found = tar_index(str(root), tar).get(member)
        if found is None:
            raise FileNotFoundError(name)
        return found[1]
    if is_remote(root):
        files, base = filesystem(str(root))
        info = files.get_file_info(f"{base}/{name}")
        if info.type != pyarrow.fs.FileType.File:
            raise FileNotFoundError(name)
        return info.size
    return _regular(Path(root, name)).st_size


def read_pixels(root: str | Path, name: str) -> np.ndarray:
    """A photo decoded upright, uint8 RGB [H, W, 3]; the errors of `read_bytes` and `read_photo`."""
    return read_photo(io.BytesIO(read_bytes(root, name)))


def write_bytes(root: str | Path, name: str, data: bytes) -> None:
    """Put a file there atomically."""
    if is_remote(root):
        storage, base = filesystem(str(root))
        with storage.open_output_stream(f"{base}/{name}") as file:  # an object appears when it is closed
            file.write(data)
        return
    files.write_bytes(Path(root, name), data, sync=False)


@functools.lru_cache(maxsize=64)
def tar_index(root: str, tar: str) -> dict[str, tuple[int, int]]:
    """Offset and size of every regular member of a tar; read once for each process.

    Raises:
        OSError: the tar cannot be read. Of a tar that was cut short, the whole members are found.
    """
    return {name: (offset, size) for name, offset, size in tar_members(root, tar)}


def tar_members(root: str | Path, tar: str) -> Iterator[tuple[str, int, int]]:
    """(name, offset, size) of every regular member, reading headers only."""
    with _open(root, tar) as file:
        try:
            with tarfile.open(fileobj=file, mode="r:") as archive:
                headers: Any = archive
                for member in archive:
                    # A sparse member's data is not one piece; links name other members.
                    if member.isreg() and not member.issparse():
                        yield member.name.removeprefix("./"), member.offset_data, member.size
                    headers.members = []  # tarfile would remember every header
        except tarfile.TarError as error:
            raise OSError(f"{tar}: {error}") from error


def _open(root: str | Path, name: str) -> BinaryIO | Any:
    if is_remote(root):
        files, base = filesystem(str(root))
        return io.BufferedReader(_Raw(files.open_input_file(f"{base}/{name}")), 2**18)
    _regular(Path(root, name))
    return open(Path(root, name), "rb")


class _Raw(io.RawIOBase):
    """An Arrow file as Python's io knows it, so that it can be buffered."""

    def __init__(self, file: pa.NativeFile):
        self._file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer: Any) -> int:
        return self._file.readinto(buffer)

    def close(self) -> None:
        self._file.close()
        super().close()


def _regular(path: Path) -> os.stat_result:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
        raise OSError(f"{path} is not a regular file")
    return status


def _split(root: str, name: str) -> tuple[str | None, str]:
    """(tar, member) of a name that leads into a tar, else (None, name)."""
    head, mark, member = name.partition(f"{_TAR}/")
    if not mark or not (is_remote(root) or Path(root, head + _TAR).is_file()):
        return None, name
    return head + _TAR, member
