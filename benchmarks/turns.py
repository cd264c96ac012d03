"""Processes that take turns on one machine: what disturbs it, disturbs all of them alike."""

import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

_LONGEST_WAIT = 300.0  # seconds, for a process to start its work


class Host:
    """How much of this machine's cores its host gave to others since this object was made, where the system tells."""

    def __init__(self) -> None:
        self._start, self._stolen = time.monotonic(), self._now()

    def took(self) -> float:
        """A share of all cores; 0 on a machine of its own."""
        return (self._now() - self._stolen) / (time.monotonic() - self._start) / psutil.cpu_count()

    @staticmethod
    def _now() -> float:
        return getattr(psutil.cpu_times(), "steal", 0.0)


class Player:
    """A command in a process of its own, frozen with all its children except in its turns.

    Args:
        command: what to run.
        log: where its output goes.
        timeline: reads how far it is: (unix seconds, samples so far), in order.
    """

    def __init__(self, command: Sequence[str], log: Path, timeline: Callable[[], list[tuple[float, float]]]):
        self._log, self._timeline = log, timeline
        self._turns: list[tuple[float, float]] = []
        with log.open("w") as stream:
            self._process = psutil.Popen(command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream)

    def warm_up(self, samples: int) -> None:
        """Let it run until it has so many samples behind it, and freeze it.

        Raises:
            SystemExit: it ended, or took too long.
        """
        end = time.monotonic() + _LONGEST_WAIT
        while not any(n >= samples for _, n in self._timeline()):
            if self._process.poll() is not None or time.monotonic() > end:
                self.end()
                raise SystemExit(f"{self._log.read_text()[-3000:]}\nthe process above did not get to work")
            time.sleep(0.1)
        self._signal(signal.SIGSTOP)

    def new_game(self) -> None:
        """Forget the turns so far."""
        self._turns.clear()

    def play(self, seconds: float) -> None:
        """One turn."""
        start = time.time()
        self._signal(signal.SIGCONT)
        time.sleep(seconds)
        self._signal(signal.SIGSTOP)
        self._turns.append((start, time.time()))

    def speed(self) -> float:
        """Samples per second of its own turns, between the first and the last entry of the timeline in them."""
        entries = [(t, n) for t, n in self._timeline() if self._turns[0][0] <= t <= self._turns[-1][1]]
        (first, before), (last, after) = entries[0], entries[-1]
        return (after - before) / sum(max(0.0, min(e, last) - max(s, first)) for s, e in self._turns)

    def end(self) -> None:
        """Kill it and its children."""
        for process in self._tree():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()

    def _signal(self, number: int) -> None:
        for _ in range(2):  # the second time for children that were born meanwhile
            for process in self._tree():
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(number)

    def _tree(self) -> list[psutil.Process]:
        with suppress(psutil.NoSuchProcess):
            return [self._process, *self._process.children(recursive=True)]
        return []
