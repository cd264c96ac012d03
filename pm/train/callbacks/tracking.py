"""The run in a tracker (`pm.track`)."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pm.track.base import RunInfo, Tracker, TrackerChoice, start
from pm.train.callbacks.base import Callback


class Tracked(Callback):
    """Hands metrics and pictures on to a tracker; no outage of it stops the training.

    Args:
        choice: which tracker.
        run_dir: the run's folder.
        run: what is recorded.
        tell: called with a line about every outage.
    """

    def __init__(self, choice: TrackerChoice, run_dir: Path, run: RunInfo, tell: Callable[[str], None]):
        self._choice, self._run_dir, self._run, self._tell = choice, run_dir, run, tell
        self._tracker = Tracker()

    def on_start(self, step: int, steps: int) -> None:
        self._tracker = start(self._choice, self._run_dir, replace(self._run, step=step), self._tell)

    def on_log(self, metrics: Mapping[str, Any]) -> None:
        self._tracker.metrics({f"train/{k}": v for k, v in metrics.items() if k != "step"}, metrics["step"])

    def on_pictures(self, step: int, path: Path) -> None:
        self._tracker.picture("validation", path, step)

    def on_stop(self, step: int) -> None:
        self._tracker.finish({})

    def on_end(self, summary: Mapping[str, Any]) -> None:
        self._tracker.finish(summary)
