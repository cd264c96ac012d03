"""The small file that tells the driver where the run is."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pm.files import write_json
from pm.train.callbacks.base import Callback

PROGRESS = ".progress.json"


class Progress(Callback):
    """A small file that the driver's progress bar reads, rewritten at most a few times a second."""

    def __init__(self, run_dir: Path, every_seconds: float = 0.4):
        self._path, self._every = run_dir / PROGRESS, every_seconds
        self._state: dict[str, Any] = {}
        self._written = 0.0

    def note(self, text: str) -> None:
        """A line for the terminal, beside the progress."""
        self._state["note"] = text
        self._write()

    def phase(self, text: str) -> None:
        """What is going on outside the steps, for example "loading the base model"."""
        self._state["phase"] = text
        self._write()

    def on_start(self, step: int, steps: int) -> None:
        self._state |= {"phase": "training", "step": step, "start": step, "steps": steps}
        self._write()

    def on_step(self, step: int) -> None:
        self._state["step"] = step
        if time.monotonic() - self._written > self._every:
            self._write()

    def on_log(self, metrics: Mapping[str, Any]) -> None:
        self._state |= {key: metrics[key] for key in ("loss", "samples_per_s")}
        self._write()

    def on_pictures(self, step: int, path: Path) -> None:
        self._state["pictures"] = str(path)

    def on_stop(self, step: int) -> None:
        self._state |= {"phase": "stopped", "step": step}
        self._write()

    def on_end(self, summary: Mapping[str, Any]) -> None:
        self._state["phase"] = "finished"
        self._write()

    def _write(self) -> None:
        write_json(self._path, self._state, sync=False)
        self._written = time.monotonic()
