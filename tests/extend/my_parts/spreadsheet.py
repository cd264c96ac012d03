"""`tracker=spreadsheet`: the numbers of a run as a CSV file in its folder."""

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pm.track.base import RunInfo, Tracker, TrackerChoice


@dataclass(frozen=True)
class SpreadsheetChoice(TrackerChoice):
    file: str  # inside the run's folder

    def build(self, folder: Path, run: RunInfo, tell: Callable[[str], None]) -> "Spreadsheet":
        return Spreadsheet(folder / self.file, run)


class Spreadsheet(Tracker):
    def __init__(self, path: Path, run: RunInfo):
        # Steps that a lost attempt had recorded are taken again.
        lines = path.read_text().splitlines()[1:] if path.exists() else []
        kept = [line for line in lines if int(line.partition(",")[0]) <= run.step]
        path.write_text("\n".join(["step,name,value", *kept]) + "\n")
        self.path = path

    def metrics(self, values: Mapping[str, Any], step: int) -> None:
        with self.path.open("a", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([step, name, value] for name, value in values.items())
