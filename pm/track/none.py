"""No tracker: a run's own files have everything."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pm.track.base import RunInfo, Tracker, TrackerChoice


@dataclass(frozen=True)
class NoTracker(TrackerChoice):
    """Records nothing."""

    def build(self, folder: Path, run: RunInfo, tell: Callable[[str], None]) -> Tracker:
        return Tracker()
