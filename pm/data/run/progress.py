"""What every stage is doing, while it does it: counts from all workers, drawn as one table."""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

_COUNTS = ("seen", "in", "rejected", "failed", "seconds")
_DRAWN_EVERY, _LOGGED_EVERY = 0.5, 30.0  # seconds, on a terminal and in a log


@contextlib.contextmanager
def waiting(what: str) -> Iterator[None]:
    """Say what is being done: on a terminal with a clock that moves until it is done, elsewhere as a line."""
    console = Console(file=sys.stderr)
    if not console.is_terminal:
        print(f"preprocess: {what}", file=sys.stderr, flush=True)
        yield
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as clock:
        clock.add_task(what, total=None)
        yield


class Board:
    """Adds up what the workers report; lives in one process that all of them can call."""

    def __init__(self, stages: Sequence[str]):
        self._counts = {stage: dict.fromkeys(_COUNTS, 0.0) for stage in stages}

    def add(self, stage: str, counts: Mapping[str, float]) -> None:
        for name, value in counts.items():
            self._counts[stage][name] += value

    def read(self) -> dict[str, dict[str, float]]:
        return self._counts


class Display:
    """Draws a board during a run: a live table on a terminal, a line now and then elsewhere.

    Args:
        read: gives the board's counts; called in a thread of its own.
        total: photos of this run.
        already: photos that earlier runs finished.
    """

    def __init__(self, read: Callable[[], dict[str, dict[str, float]]], total: int, already: int):
        self.read, self.total, self.already = read, total, already
        self.kept = self.found = 0
        self._start, self._stop = time.monotonic(), threading.Event()
        self._console = Console(file=sys.stderr)
        self._thread = threading.Thread(target=self._draw, daemon=True)

    def __enter__(self) -> "Display":
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._stop.set()
        self._thread.join(timeout=5)

    def finished(self, note: Mapping[str, int]) -> None:
        """A shard is done."""
        self.found += note["found"]
        self.kept += note["kept"]

    def _draw(self) -> None:
        if not self._console.is_terminal:
            while not self._stop.wait(_LOGGED_EVERY):
                self._console.print(self.line(), highlight=False, soft_wrap=True)
            return
        with Live(self.table(), console=self._console, auto_refresh=False) as live:
            while not self._stop.wait(_DRAWN_EVERY):
                live.update(self.table(), refresh=True)
            live.update(self.table(), refresh=True)

    def table(self) -> Table:
        """Every stage's queue, speed, rejects and failures."""
        seconds = time.monotonic() - self._start
        title = f"{self.already + self.found} of {self.already + self.total} photos, {self.kept} kept, {seconds:.0f} s"
        table = Table(title=title, title_justify="left")
        for name in ("stage", "done", "queue", "photos/s", "s/photo of a worker", "rejected", "failed"):
            table.add_column(name, justify="left" if name == "stage" else "right")
        for stage, row in self._rows(seconds):
            table.add_row(stage, *row)
        return table

    def line(self) -> str:
        """The same in one line."""
        seconds = time.monotonic() - self._start
        rows = [f"{stage} {row[0]} (queue {row[1]}, {row[2]}/s)" for stage, row in self._rows(seconds)]
        return f"preprocess: {self.already + self.found} of {self.already + self.total} photos; " + ", ".join(rows)

    def _rows(self, seconds: float) -> list[tuple[str, tuple[str, ...]]]:
        rows, before = [], float(self.total)
        for stage, counts in self._read().items():
            seen = min(counts["seen"], before)
            each = f"{counts['seconds'] / counts['in']:.3f}" if counts["in"] else "-"
            speed = f"{counts['in'] / max(seconds, 1e-9):.1f}"
            numbers = (seen, before - seen, speed, each, counts["rejected"], counts["failed"])
            rows.append((stage, tuple(n if isinstance(n, str) else f"{n:.0f}" for n in numbers)))
            before = seen
        return rows

    def _read(self) -> dict[str, dict[str, float]]:
        try:
            return self.read()
        except Exception:  # the picture must never stop the work
            return {}
