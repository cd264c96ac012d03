"""One line for each row of the report while its pictures are made: how many, how fast, and when it will be done."""

import sys
import time
from datetime import timedelta

_IN_A_LOG = 30.0  # seconds between two lines where they cannot be overwritten


class Line:
    """The line of one row."""

    def __init__(self, label: str, total: int, done: int = 0) -> None:
        """`done`: of earlier runs."""
        self.label, self.total, self.done, self._before = label, total, done, done
        self._start = self._shown = 0.0
        if done == total:
            print(f"{label}: {total} pictures are there already", flush=True)

    def begin(self) -> None:
        """Its first piece of work has been handed out."""
        if not self._start:
            self._start = self._shown = time.monotonic()
            print(self._text(), end="\r" if sys.stdout.isatty() else "\n", flush=True)

    def add(self, count: int) -> None:
        self.begin()
        self.done += count
        now, live, last = time.monotonic(), sys.stdout.isatty(), self.done == self.total
        if live or last or now - self._shown >= _IN_A_LOG:
            self._shown = now
            print(self._text(), end="\r" if live and not last else "\n", flush=True)

    def _text(self) -> str:
        spent, new = time.monotonic() - self._start, self.done - self._before
        text = f"{self.label}: {self.done}/{self.total} pictures"
        if not new:
            return text
        each = spent / new
        if self.done == self.total:
            return f"{text}, {each:.2f} s each, {_clock(spent)} in all     "
        return f"{text}, {each:.2f} s each, ready in {_clock(each * (self.total - self.done))}     "


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
