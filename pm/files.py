"""Files that appear under their name only when they are complete, locks, and what to say when a disk is full.

Everything is written beside its place as `.<name>.<8 hex digits>.tmp` and renamed at the end, so a reader sees the old
file or the new one. What a killed process leaves has a name that `remove_leftovers` knows.
"""

import contextlib
import errno
import fcntl
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from pm.errors import LockedError, PmError, WriteError

_TEMPORARY = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{8}\.tmp")
# Those of versions before 0.2, which a run that is resumed still finds.
_OLDER = re.compile(r"\.?(?P<name>.+?)\.((\d+|pulled)\.tmp|tmp\d*|partial)")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_IN_TEXT = re.compile(r"(?:os error|\[?errno) (\d+)", re.IGNORECASE)  # safetensors; arrow


@contextlib.contextmanager
def replace_file(path: str | Path, *, sync: bool = True, mode: int | None = None) -> Iterator[Path]:
    """Give the path of a temporary file to write; it takes the place of `path` when the block ends without an error.

    Folders above it are made. For libraries that open files themselves; else see `open_atomic`.

    Args:
        sync: wait until the file is on the disk, so that it also outlives a power cut. False for what is written many
            times a minute or can be made again.
        mode: permissions; None leaves what the writer gave it.

    Raises:
        WriteError: the disk is full, or the place cannot be written.
    """
    target = Path(path)
    temporary = _temporary(target)
    try:
        with writing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            if mode is not None:
                temporary.chmod(mode)
            if sync:
                _sync(temporary)
            os.replace(temporary, target)
            if sync:
                _sync(target.parent)
    finally:
        with contextlib.suppress(OSError):  # a folder that cannot be reached: the error itself says so
            temporary.unlink()


@contextlib.contextmanager
def open_atomic(path: str | Path, how: str = "w", *, sync: bool = True, mode: int | None = None) -> Iterator[IO[Any]]:
    """A file open for writing (`how`: "w" for UTF-8 text or "wb"), whole or not at all; else like `replace_file`."""
    with replace_file(path, sync=sync) as temporary:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        handle = os.open(temporary, flags, 0o666 if mode is None else mode)
        with open(handle, how, encoding=None if "b" in how else "utf-8") as stream:
            yield stream


def write_bytes(path: str | Path, data: bytes, *, sync: bool = True, mode: int | None = None) -> None:
    """Write a file atomically; see `replace_file`."""
    with open_atomic(path, "wb", sync=sync, mode=mode) as stream:
        stream.write(data)


def write_text(path: str | Path, text: str, *, sync: bool = True, mode: int | None = None) -> None:
    """Write a file of UTF-8 text atomically; see `replace_file`."""
    write_bytes(path, text.encode(), sync=sync, mode=mode)


def write_json(path: str | Path, value: Any, *, indent: int | None = None, sync: bool = True) -> None:
    """Write `value` as JSON and a line end, atomically; see `replace_file`."""
    write_text(path, json.dumps(value, indent=indent) + "\n", sync=sync)


@contextlib.contextmanager
def replace_folder(path: str | Path, *, sync: bool = True) -> Iterator[Path]:
    """Give a temporary folder to fill; it takes the place of `path` when the block ends without an error.

    A folder that is there already is replaced, and is gone for a moment in between.

    Args:
        sync: as in `replace_file`, for every file in it.

    Raises:
        WriteError: the disk is full, or the place cannot be written.
    """
    target = Path(path)
    temporary, old = _temporary(target), _temporary(target)
    try:
        with writing(target):
            temporary.mkdir(parents=True)
            yield temporary
            if sync:
                for file in (*temporary.rglob("*"), temporary):
                    _sync(file)
            if target.exists():
                target.rename(old)
            temporary.rename(target)
            if sync:
                _sync(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if target.exists():
            shutil.rmtree(old, ignore_errors=True)
        elif old.exists():
            old.rename(target)


def target_name(name: str) -> str | None:
    """The name that a temporary file or folder would have got; None for any other name."""
    found = _TEMPORARY.fullmatch(name) or _OLDER.fullmatch(name)
    return None if found is None else found["name"]


def remove_leftovers(folder: str | Path, ours: Callable[[str], bool]) -> None:
    """Remove temporary files and folders of processes that were killed, where `ours` knows the name they would have.

    Only where nobody else writes meanwhile: for holders of the folder's lock.
    """
    for path in Path(folder).iterdir():
        name = target_name(path.name)
        if name is not None and ours(name):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def check_place(folder: str | Path, setting: str) -> None:
    """Find out, without making it, whether a folder can be made and written, before work that takes long.

    Raises:
        WriteError: it is a file, is below one, or may not be written.
    """
    place = Path(folder).absolute()
    made = next(each for each in (place, *place.parents) if each.exists())
    if not made.is_dir() or not os.access(made, os.W_OK | os.X_OK):
        number = errno.EACCES if made.is_dir() else errno.ENOTDIR
        raise write_error(place, OSError(number, os.strerror(number)), setting)


@contextlib.contextmanager
def writing(path: str | Path, setting: str = "") -> Iterator[None]:
    """Turn the errors of writing at `path` into one line that names it and the way out.

    Everything in this module does so itself; the block adds the setting, and covers what libraries write.

    Args:
        path: the file, or the folder that all files in the block go to.
        setting: what chooses the place, for example "output=".

    Raises:
        WriteError: the disk is full, or the place cannot be written.
    """
    try:
        yield
    except WriteError as error:
        if not setting:
            raise
        raise write_error(error.path, error, setting) from error
    except PmError:
        raise
    except Exception as error:
        if not _about(error, Path(path)):
            raise
        raise write_error(path, error, setting) from error


def write_error(path: str | Path, error: Exception, setting: str = "") -> WriteError:
    """The one message for what cannot be written: where, why, and what to do."""
    number, place = _number(error), os.path.abspath(path)
    another = f"choose another {setting}" if setting else "choose another folder"
    if number in _FULL:
        text = f"{place} cannot be written, the disk is full ({_room(Path(place))}); free some space, or {another}"
    else:
        why = os.strerror(number) if number else str(error).strip()
        text = f"{place} cannot be written ({why}); {another}, or make this one writable"
    result = WriteError(text)
    result.path, result.errno = place, number
    return result


def is_full(error: BaseException) -> bool:
    """Whether an error, or what led to it, says that there is no room left."""
    return _number(error) in _FULL


@contextlib.contextmanager
def locked(path: str | Path, what: str, way_out: str = "wait until it has finished") -> Iterator[None]:
    """Hold a lock meanwhile; the system lets go of it when this process ends, however it ends.

    Args:
        path: a folder, which must exist, or a file for nothing but the lock, which is made.
        what: names the thing in the message, for example "dataset data/mine".
        way_out: ends the message.

    Raises:
        LockedError: somebody else holds it; names the process if it runs on this machine.
        WriteError: the file cannot be made.
    """
    with writing(path):
        folder = Path(path).is_dir()
        handle = os.open(path, os.O_RDONLY if folder else os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LockedError(f"{what} is in use by {_holder(handle)}; {way_out}") from None
        except OSError:  # a file system without locks
            pass
        yield
    finally:
        os.close(handle)


def _temporary(target: Path) -> Path:
    # A name as long as file systems take has no room for ours around it.
    name = target.name if len(os.fsencode(target.name)) < 200 else target.name[:40]
    return target.with_name(f".{name}.{secrets.token_hex(4)}.tmp")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # file systems that cannot, mostly for folders
            raise
    finally:
        os.close(handle)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what led to it, the newest first; torch and safetensors wrap the system's."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _number(error: BaseException) -> int | None:
    """The system's number of an error or of what led to it."""
    for each in _chain(error):
        number = getattr(each, "errno", None)
        if number:
            return int(number)
        found = _IN_TEXT.search(str(each))
        if found:
            return int(found[1])
    return None


def _about(error: Exception, path: Path) -> bool:
    """Whether an error comes from writing at `path`, and not from reading something else."""
    names = [each.filename for each in _chain(error) if isinstance(each, OSError) and each.filename is not None]
    if not names:  # in the middle of a file
        return _number(error) in (*_FULL, errno.EIO, errno.EROFS)
    here, place = Path(os.path.abspath(os.fsdecode(names[0]))), Path(os.path.abspath(path))
    return here == place or here.parent == place.parent or here in place.parents or place in here.parents


def _room(path: Path) -> str:
    place = next(p for p in (path, *path.parents) if p.exists())
    usage = shutil.disk_usage(place)
    return f"{usage.free / 2**20:.0f} MiB of {usage.total / 2**30:.1f} GiB are free"


def _holder(handle: int) -> str:
    """Who holds the lock of an open file, by Linux's list; elsewhere, or on another machine, nobody knows."""
    status = os.fstat(handle)
    place = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    with contextlib.suppress(OSError, IndexError, ValueError):
        for fields in map(str.split, Path("/proc/locks").read_text().splitlines()):
            if fields[1] == "FLOCK" and fields[5] == place and int(fields[4]) > 0:
                words = Path(f"/proc/{int(fields[4])}/cmdline").read_bytes().decode(errors="replace").split("\0")
                return f"process {int(fields[4])} ({' '.join(words).strip()[:100]})"
    return "another process"
