"""The driver's view of a run: one progress bar, fed by the small file that rank 0 keeps."""

import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from pm.train.callbacks import PROGRESS


@contextmanager
def watch(run_dir: Path, name: str, stream: TextIO | None = None) -> Iterator[None]:
    """Show the run's progress while the body waits for it: a live bar on a terminal, a line now and then in a log."""
    stop = threading.Event()
    out = stream or sys.stderr
    (run_dir / PROGRESS).unlink(missing_ok=True)
    view = _Bar(name, out) if out.isatty() else _Lines(name, out)
    thread = threading.Thread(target=_follow, args=(run_dir / PROGRESS, view, stop), name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        view.close()
        (run_dir / PROGRESS).unlink(missing_ok=True)


def _follow(path: Path, view: "_Bar | _Lines", stop: threading.Event) -> None:
    while True:
        last = stop.is_set()
        with suppress(OSError, ValueError):  # not written yet
            view.show(json.loads(path.read_text()))
        if last:
            return
        stop.wait(0.25)


def describe(state: dict[str, Any]) -> str:
    """Loss and speed, as far as they are known."""
    parts = [f"loss {state['loss']:.4f}"] if "loss" in state else []
    parts += [f"{state['samples_per_s']:.1f} samples/s"] if "samples_per_s" in state else []
    return ", ".join(parts)


class _Bar:
    """A tqdm bar with loss, samples a second and the time that is left."""

    def __init__(self, name: str, stream: TextIO):
        self._name, self._stream = name, stream
        self._bar: Any = None
        self._phase, self._pictures, self._note = "", "", ""

    def show(self, state: dict[str, Any]) -> None:
        from tqdm import tqdm

        phase = state.get("phase", "")
        if self._bar is None and "steps" not in state:
            if phase != self._phase:
                print(f"{self._name}: {phase} ...", file=self._stream, flush=True)
                self._phase = phase
            return
        if self._bar is None:
            self._bar = tqdm(
                total=state["steps"],
                initial=state["start"],
                desc=self._name,
                file=self._stream,
                dynamic_ncols=True,
                bar_format="{desc} {percentage:3.0f}%|{bar}| {n}/{total} [{elapsed}<{remaining}{postfix}]",
            )
        self._bar.set_postfix_str(describe(state), refresh=False)
        self._bar.n = state["step"]
        self._bar.refresh()
        if state.get("pictures", "") != self._pictures:
            self._pictures = state["pictures"]
            self._bar.write(f"step {state['step']}: {self._pictures}", file=self._stream)
        if state.get("note", "") != self._note:
            self._note = state["note"]
            self._bar.write(self._note, file=self._stream)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


class _Lines:
    """The same for a log file: a line every few seconds, without control characters."""

    def __init__(self, name: str, stream: TextIO, every_seconds: float = 10.0):
        self._name, self._stream, self._every = name, stream, every_seconds
        self._phase, self._note, self._shown, self._next = "", "", -1, 0.0
        self._start: tuple[float, int] | None = None  # when the first step was seen, and which

    def show(self, state: dict[str, Any]) -> None:
        if state.get("note", "") != self._note:
            self._note = state["note"]
            self._print(self._note)
        if "steps" not in state:
            if state.get("phase", "") != self._phase:
                self._phase = state["phase"]
                self._print(f"{self._phase} ...")
            return
        now, step, steps = time.monotonic(), state["step"], state["steps"]
        self._start = self._start or (now, step)
        if step in (self._shown, state["start"]) or (now < self._next and step < steps):
            return
        self._shown, self._next = step, now + self._every
        began, first = self._start
        left = f"{_clock((steps - step) * (now - began) / (step - first))} left" if first < step < steps else ""
        self._print(", ".join(filter(None, [f"step {step}/{steps}", describe(state), left])))

    def close(self) -> None:
        return

    def _print(self, text: str) -> None:
        print(f"{self._name}: {text}", file=self._stream, flush=True)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
