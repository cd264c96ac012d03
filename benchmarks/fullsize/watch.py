"""Peak memory of a process with all its children, and what a machine has left."""

import shutil
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil

GIB = 2**30


class Watch:
    """Follows a process tree while the block runs, several times a second.

    What counts is the proportional share of each process (PSS), so that shared pages are counted once; where the
    system does not tell it, the resident set. `peak` includes mapped files, `held` does not: the system can drop those
    and read them again.

    Args:
        pid: of the tree's root.
        every: seconds between two looks.
    """

    def __init__(self, pid: int, every: float = 0.2) -> None:
        self.peak, self.held = 0, 0  # bytes
        self._root, self._every = psutil.Process(pid), every
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> "Watch":
        self.started = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.monotonic() - self.started
        self._look()
        self._end.set()
        self._thread.join()

    def _follow(self) -> None:
        while not self._end.wait(self._every):
            self._look()

    def _look(self) -> None:
        whole = held = 0
        with suppress(psutil.Error):
            for process in [self._root, *self._root.children(recursive=True)]:
                with suppress(psutil.Error, OSError):
                    mine, files = _memory(process)
                    whole, held = whole + mine, held + mine - files
        self.peak, self.held = max(self.peak, whole), max(self.held, held)


def _memory(process: psutil.Process) -> tuple[int, int]:
    """Bytes of a process, and of these such as belong to mapped files."""
    rollup = Path(f"/proc/{process.pid}/smaps_rollup")
    if not rollup.exists():
        return process.memory_info().rss, 0
    found = {}
    for line in rollup.read_text().splitlines()[1:]:
        name, _, value = line.partition(":")
        found[name] = 1024 * int(value.split()[0])
    return found["Pss"], found.get("Pss_File", 0)


def missing(needed: float, folder: Path, room: float) -> str | None:
    """What this machine lacks, in one sentence, or None.

    Args:
        needed: GiB of memory.
        folder: where files go.
        room: GiB they take.
    """
    free, disk = psutil.virtual_memory().available / GIB, shutil.disk_usage(_there(folder)).free / GIB
    if free < needed:
        return f"{needed:.1f} GiB of memory are needed and {free:.1f} are free; end other programs, or --force"
    if disk < room:
        return f"{room:.1f} GiB are needed in {folder} and {disk:.1f} are free; choose another --output, or --force"
    return None


def _there(folder: Path) -> Path:
    return next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
