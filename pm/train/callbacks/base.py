"""The hooks that every callback has, called as the training proceeds."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Callback:
    """Hooks of the training loop; all do nothing by default. Called on every rank, at the same points."""

    def on_start(self, step: int, steps: int) -> None:
        """Before the first step of this process; `step` steps of `steps` are done already."""

    def on_step(self, step: int) -> None:
        """After each optimizer update."""

    def on_log(self, metrics: Mapping[str, Any]) -> None:
        """Every `log_every` steps; `metrics` are means since the last time, over all workers."""

    def on_pictures(self, step: int, path: Path) -> None:
        """After a validation wrote a picture."""

    def on_stop(self, step: int) -> None:
        """After a run that was asked to stop has saved itself; it is not finished."""

    def on_end(self, summary: Mapping[str, Any]) -> None:
        """After the last step and the export."""
