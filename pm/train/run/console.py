"""The driver's view of a run: one progress bar, fed by the small file that rank 0 keeps."""

import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from pm.train.callbacks.progress import PROGRESS


@contextmanager
def watch(run_dir: Path, name: str, phase: str, stream: TextIO | None = None) -> Iterator[None]:
    """Show the run's progress while the body waits for it: a live bar on a terminal, a line now and then in a log.

    Args:
        run_dir: where rank 0 keeps its small file.
        name: of the run.
        phase: what is happening until that file exists.
        stream: standard error by default.
    """
    stop = threading.Event()
    out = stream or sys.stderr
    (run_dir / PROGRESS).unlink(missing_ok=True)
    view: _View = _Bar(name, out) if out.isatty() else _Lines(name, out)
    view.show({"phase": phase})
    thread = threading.Thread(target=_follow, args=(run_dir / PROGRESS, view, stop), name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        view.close()
        (run_dir / PROGRESS).unlink(missing_ok=True)


def _follow(path: Path, view: "_View", stop: threading.Event) -> None:
    while True:
        last = stop.is_set()
        with suppress(OSError, ValueError):  # not written yet
            view.show(json.loads(path.read_text()))
        if last:
            return
        view.tick()
        stop.wait(0.25)


def describe(state: dict[str, Any]) -> str:
    """Loss and speed, as far as they are known."""
    parts = [f"loss {state['loss']:.4f}"] if "loss" in state else []
    parts += [f"{state['samples_per_s']:.1f} samples/s"] if "samples_per_s" in state else []
    return ", ".join(parts)


class _View:
    """Phases and notes, each told once; a kind of view shows the steps."""

    def __init__(self, name: str, stream: TextIO):
        self._name, self._stream = name, stream
        self._phase, self._note, self._trained = "", "", False
        self._since = time.monotonic()  # of the phase

    def show(self, state: dict[str, Any]) -> None:
        if state.get("note", self._note) != self._note:
            self._note = state["note"]
            self._say(self._note)
        if "steps" in state:
            if self._phase or not self._trained:
                self._begin(state)
            self._phase, self._trained = "", True
            self._steps(state)
        elif state.get("phase", "") != self._phase:  # not training yet, or not again: workers were lost
            self._phase, self._since = state["phase"], time.monotonic()
            self._say(f"{'started again: ' if self._trained else ''}{self._phase} ...")

    def _say(self, text: str) -> None:
        print(f"{self._name}: {text}", file=self._stream, flush=True)

    def _begin(self, state: dict[str, Any]) -> None:
        """Training begins, or begins again from a checkpoint."""

    def _steps(self, state: dict[str, Any]) -> None:
        raise NotImplementedError

    def tick(self) -> None:
        """A few times a second: show that the run is alive while a phase takes long."""

    def close(self) -> None:
        """The run has ended."""


class _Bar(_View):
    """A tqdm bar with loss, samples a second and the time that is left."""

    def __init__(self, name: str, stream: TextIO):
        super().__init__(name, stream)
        self._bar: Any = None
        self._pictures = ""
        self._alive = ""  # the line that is written over and over before the first step

    def _say(self, text: str) -> None:
        if self._bar is None:
            self._clear()
            super()._say(text)
        else:
            self._bar.write(f"{self._name}: {text}", file=self._stream)

    def tick(self) -> None:
        if self._bar is not None:
            self._bar.refresh()  # its clock
        elif self._phase:
            self._alive = f"\r{self._name}: {self._phase} {_clock(time.monotonic() - self._since)} "
            print(self._alive, end="", file=self._stream, flush=True)

    def _clear(self) -> None:
        if self._alive:
            print("\r" + " " * len(self._alive) + "\r", end="", file=self._stream, flush=True)
            self._alive = ""

    def _begin(self, state: dict[str, Any]) -> None:
        from tqdm import tqdm

        self._clear()
        if self._bar is None:
            self._bar = tqdm(
                total=state["steps"],
                initial=state["start"],
                desc=self._name,
                file=self._stream,
                dynamic_ncols=True,
                bar_format="{desc} {percentage:3.0f}%|{bar}| {n}/{total} [{elapsed}<{remaining}{postfix}]",
            )

    def _steps(self, state: dict[str, Any]) -> None:
        self._bar.set_postfix_str(describe(state), refresh=False)
        self._bar.n = state["step"]
        self._bar.refresh()
        if state.get("pictures", self._pictures) != self._pictures:
            self._pictures = state["pictures"]
            self._say(f"step {state['step']}: {self._pictures}")

    def close(self) -> None:
        self._clear()
        if self._bar is not None:
            self._bar.close()


class _Lines(_View):
    """The same for a log file: a line every few seconds, without control characters."""

    def __init__(self, name: str, stream: TextIO, every_seconds: float = 10.0):
        super().__init__(name, stream)
        self._every, self._next, self._shown, self._told = every_seconds, 0.0, -1, 0.0
        self._start = (0.0, 0)  # when training began, and at which step
        self._first = False  # training has begun, and no step is done

    def tick(self) -> None:
        now = time.monotonic()
        what = self._phase or ("in the first step" if self._first else "")
        if what and now - max(self._since, self._told) >= self._every:
            self._told = now
            self._say(f"still {what} ({_clock(now - self._since)})")

    def _begin(self, state: dict[str, Any]) -> None:
        self._since = time.monotonic()
        self._start = (self._since, state["step"])

    def _steps(self, state: dict[str, Any]) -> None:
        now, step, steps = time.monotonic(), state["step"], state["steps"]
        self._first = step == state["start"]
        if step in (self._shown, state["start"]) or (now < self._next and step < steps):
            return
        self._shown, self._next = step, now + self._every
        began, first = self._start
        left = f"{_clock((steps - step) * (now - began) / (step - first))} left" if first < step < steps else ""
        self._say(", ".join(filter(None, [f"step {step}/{steps}", describe(state), left])))


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
