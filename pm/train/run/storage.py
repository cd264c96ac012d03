"""A run that lives in a storage of its own, like `s3://bucket/runs/toon`, instead of a folder that all machines see.

Ray Train writes the checkpoints there itself. Everything else is small: rank 0 writes it into a folder of its machine,
from where it is copied up whenever it changes; the driver keeps a copy of it for the user.
"""

import hashlib
import shutil
import tempfile
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pyarrow import fs
from pyarrow.lib import ArrowInvalid

from pm.errors import ConfigError, reason
from pm.files import replace_file
from pm.track.wandb import ID_FILE
from pm.train.callbacks.progress import PROGRESS
from pm.train.run.summary import CHECKPOINTS, STOP

_HIDDEN = {PROGRESS, ID_FILE}  # the hidden files that belong to a run
_SECONDS = 1.0  # between looks


def is_uri(path: str) -> bool:
    """Whether `path` names a storage rather than a folder."""
    return "://" in path


def join(storage_path: str, name: str) -> str:
    """`name` below a folder or URI; a URI's options stay at its end."""
    path, mark, options = storage_path.partition("?") if is_uri(storage_path) else (storage_path, "", "")
    return f"{path.rstrip('/')}/{name}{mark}{options}"


def folders(storage_path: str, name: str) -> tuple[Path, str | None]:
    """Where the run `name` is on this machine, and the URI of its storage if it lives elsewhere."""
    return (Path("runs", name), join(storage_path, name)) if is_uri(storage_path) else (Path(storage_path, name), None)


class RemoteFolder:
    """A run's folder in a storage.

    Args:
        uri: what pyarrow knows (s3, gs, hdfs, file) or, where its package is installed, fsspec.

    Raises:
        ConfigError: nothing can open such a URI.
    """

    def __init__(self, uri: str):
        self.uri = uri
        self.filesystem, self.path = _open(uri)

    def __reduce__(self) -> tuple:
        return RemoteFolder, (self.uri,)

    def scratch(self) -> Path:
        """Where rank 0 keeps the run's small files on its machine."""
        return Path(tempfile.gettempdir(), f"pm-run-{hashlib.sha256(self.uri.encode()).hexdigest()[:16]}")

    def check_writable(self) -> None:
        """Make the folder.

        Raises:
            ConfigError: it cannot be written.
        """
        probe = f"{self.path}/.writable"
        try:
            self.filesystem.create_dir(self.path, recursive=True)
            with self.filesystem.open_output_stream(probe) as stream:
                stream.write(b"x")
            self.filesystem.delete_file(probe)
        except Exception as error:  # each file system has its own
            raise ConfigError(
                f"storage {self.uri} cannot be written ({reason(error)}); check storage_path, that the bucket "
                "exists, and the credentials (for S3: AWS_ACCESS_KEY_ID, AWS_REGION, AWS_ENDPOINT_URL, ...)"
            ) from None

    def pull(self, folder: Path, names: Collection[str] | None = None) -> None:
        """Copy the run's files to a folder of this machine, without checkpoints; only files called `names` if given."""
        found = self.filesystem.get_file_info(fs.FileSelector(self.path, allow_not_found=True, recursive=True))
        for info in found:
            relative = Path(info.path).relative_to(self.path)
            if info.type == fs.FileType.File and _belongs(relative) and (names is None or relative.name in names):
                self.pull_file(folder, str(relative))

    def pull_file(self, folder: Path, name: str) -> None:
        """Copy one file atomically."""
        with replace_file(folder / name, sync=False) as temporary:
            fs.copy_files(f"{self.path}/{name}", str(temporary), self.filesystem, fs.LocalFileSystem())

    def push_file(self, folder: Path, name: str) -> None:
        """Copy one file to the storage."""
        self.filesystem.create_dir(f"{self.path}/{name}".rsplit("/", 1)[0], recursive=True)
        fs.copy_files(str(folder / name), f"{self.path}/{name}", fs.LocalFileSystem(), self.filesystem)

    def has(self, name: str) -> bool:
        return self.filesystem.get_file_info(f"{self.path}/{name}").type == fs.FileType.File

    def remove(self, name: str) -> None:
        if self.has(name):
            self.filesystem.delete_file(f"{self.path}/{name}")

    def newest_checkpoint(self) -> str | None:
        """Name of the newest checkpoint's folder."""
        root = fs.FileSelector(f"{self.path}/{CHECKPOINTS}", allow_not_found=True)
        names = (Path(info.path).name for info in self.filesystem.get_file_info(root))
        return max((name for name in names if name.startswith("step-")), default=None)


@contextmanager
def mirrored(remote: RemoteFolder | None, folder: Path) -> Iterator[None]:
    """Rank 0's side: start from the storage's files, and copy up what changes in `folder` while the body runs."""
    if remote is None:
        yield
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    remote.pull(folder)
    seen = {path: _stamp(folder / path) for path in _files(folder)}

    def look(last: bool = False) -> None:
        if remote.has(STOP):
            (folder / STOP).touch()
        # The summary comes last: with it a run counts as finished.
        for path in sorted(_files(folder, everything=last), key=lambda p: p.name == "summary.json"):
            stamp = _stamp(folder / path)
            if seen.get(path) != stamp:
                remote.push_file(folder, str(path))
                seen[path] = stamp

    try:
        with _repeated(look):
            yield
    finally:
        look(last=True)


@contextmanager
def followed(remote: RemoteFolder | None, folder: Path) -> Iterator[None]:
    """The driver's side: keep `folder` up to date while the body runs, and send a wish to stop."""
    if remote is None:
        yield
        return
    remote.remove(STOP)
    remote.remove(PROGRESS)
    asked = False

    def look() -> None:
        nonlocal asked
        if not asked and (folder / STOP).exists():
            remote.push_file(folder, STOP)
            asked = True
        if remote.has(PROGRESS):
            remote.pull_file(folder, PROGRESS)

    try:
        with _repeated(look):
            yield
    finally:
        remote.remove(STOP)
        remote.pull(folder)


@contextmanager
def _repeated(look: Callable[[], None]) -> Iterator[None]:
    """Call `look` every second in a thread; an outage of the storage is no reason to stop."""
    stop = threading.Event()

    def loop() -> None:
        while not stop.wait(_SECONDS):
            with suppress(Exception):  # the next look tries again
                look()

    thread = threading.Thread(target=loop, name="storage", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _open(uri: str) -> tuple[fs.FileSystem, str]:
    try:
        return fs.FileSystem.from_uri(uri)
    except (ArrowInvalid, OSError) as error:
        unknown = error
    try:
        from fsspec.core import url_to_fs

        found, path = url_to_fs(uri)
        return fs.PyFileSystem(fs.FSSpecHandler(found)), path
    except (ImportError, ValueError, OSError):
        raise ConfigError(
            f"storage_path {uri} cannot be opened ({reason(unknown)}); use a folder, s3://bucket/folder, or a "
            "protocol whose fsspec package is installed"
        ) from None


def _files(folder: Path, everything: bool = False) -> list[Path]:
    """Files of a run, relative; those of wandb only with `everything`: it rewrites them all the time."""
    found = [p.relative_to(folder) for p in folder.rglob("*") if p.is_file() and not p.is_symlink()]
    return [p for p in found if _belongs(p) and (everything or p.parts[0] != "wandb")]


def _belongs(relative: Path) -> bool:
    return CHECKPOINTS not in relative.parts and (not relative.name.startswith(".") or relative.name in _HIDDEN)


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except FileNotFoundError:  # replaced just now
        return 0, 0
    return status.st_mtime_ns, status.st_size
