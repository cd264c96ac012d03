"""TensorBoard: event files in the run's own folder, which `tensorboard --logdir runs` shows."""

import importlib.util
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pm.errors import ConfigError, install_hint
from pm.markdown import table
from pm.track.base import RunInfo, Tracker, TrackerChoice

_FLUSH_SECONDS = 30


@dataclass(frozen=True)
class TensorBoardChoice(TrackerChoice):
    """Where TensorBoard's files go."""

    folder: str  # inside the run's folder

    def check(self) -> None:
        if importlib.util.find_spec("tensorboard") is None:
            raise ConfigError(
                f"tracker=tensorboard needs the package tensorboard, which is not installed; "
                f"run {install_hint('tensorboard')}, or choose tracker=wandb or tracker=none"
            )

    def build(self, folder: Path, run: RunInfo, tell: Callable[[str], None]) -> "TensorBoardTracker":
        self.check()
        return TensorBoardTracker(folder / self.folder, run)


class TensorBoardTracker(Tracker):
    """An event file for each start of a run; what an earlier one holds of steps after `run.step` no longer counts."""

    def __init__(self, folder: Path, run: RunInfo):
        from torch.utils.tensorboard import SummaryWriter

        first = run.step + 1
        self._writer = SummaryWriter(str(folder), purge_step=first, flush_secs=_FLUSH_SECONDS)
        settings = json.dumps(dict(run.settings), indent=2, default=str)
        self._writer.add_text("settings", f"```json\n{settings}\n```", first)

    def metrics(self, values: Mapping[str, Any], step: int) -> None:
        for name, value in values.items():
            if isinstance(value, int | float):
                self._writer.add_scalar(name, value, step)

    def picture(self, name: str, path: Path, step: int) -> None:
        import numpy as np
        from PIL import Image

        with Image.open(path) as image:
            self._writer.add_image(name, np.asarray(image.convert("RGB")), step, dataformats="HWC")
        self._writer.flush()

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        shown = [["" if cell is None else str(cell) for cell in row] for row in rows]
        self._writer.add_text(name, table(list(columns), shown))

    def finish(self, summary: Mapping[str, Any]) -> None:
        self._writer.close()
