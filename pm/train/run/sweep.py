"""A sweep: many runs side by side in one folder, and the one table at its end.

Each cell leaves `cell.json` in its folder: the overrides that make it, and how it went. The table is read from the
folders, so a cell that is run again alone takes its place in it.
"""

import json
import shlex
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pm.errors import PmError
from pm.files import write_json, write_text
from pm.markdown import mean_sd, table
from pm.track.base import RunInfo, TrackerChoice, start
from pm.train.callbacks.metrics import METRICS, read_metrics
from pm.train.run.summary import read_summary

CELL, TABLE = "cell.json", "sweep.md"
_SEED = "seed"
# What a finished cell gives. One log line's loss is mostly noise, so it is the mean over the last tenth of the steps.
COLUMNS = ("loss, last tenth", "samples/s", "minutes")


@dataclass(frozen=True)
class Cell:
    """One run of a sweep."""

    name: str  # its folder
    overrides: tuple[str, ...]  # `key=value`, of the command line
    error: str | None  # why it failed; None if it is finished
    values: dict[str, float]  # of COLUMNS, empty if it failed

    @property
    def settings(self) -> dict[str, str]:
        """The overrides as a mapping."""
        return dict(o.lstrip("+~").split("=", 1) for o in self.overrides if "=" in o)


def write_cell(folder: Path, overrides: Sequence[str], error: str | None) -> None:
    """Note how a cell went; `error` None: it is finished."""
    write_json(folder / CELL, {"overrides": list(overrides), "error": error}, indent=2)


def read_cells(root: Path) -> list[Cell]:
    """The cells in a sweep's folder, in the order of their names."""
    cells = []
    for path in sorted(root.glob(f"*/{CELL}")):
        noted = json.loads(path.read_text())
        folder, error = path.parent, noted["error"]
        values = _values(folder) if error is None else {}
        cells.append(Cell(folder.name, tuple(noted["overrides"]), error, values))
    return cells


def sweep_table(cells: Sequence[Cell]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: a row for each setting that was swept over, mean ± standard deviation over its seeds.

    The deviation is the sample's (n − 1); a single seed has none. Settings that all cells share are no columns.
    """
    varied = _varied(cells)
    groups: dict[tuple[str, ...], list[Cell]] = {}
    for cell in cells:
        groups.setdefault(tuple(cell.settings.get(key, "–") for key in varied), []).append(cell)
    rows = []
    for group, members in groups.items():
        done = [cell for cell in members if cell.error is None]
        failed = f" ({len(members) - len(done)} failed)" if len(done) < len(members) else ""
        measured = [mean_sd([c.values[column] for c in done if column in c.values]) for column in COLUMNS]
        rows.append([*group, f"{len(done)} of {len(members)}{failed}" if failed else str(len(done)), *measured])
    return [*varied, "seeds" if _swept_seeds(cells) else "runs", *COLUMNS], rows


def finish_sweep(root: Path, name: str, tracker: TrackerChoice, command: str) -> None:
    """Write `sweep.md`, print and record the table, and say how to run what failed again.

    Args:
        root: the sweep's folder.
        command: what stands before a cell's overrides to run it again alone.

    Raises:
        PmError: cells failed.
    """
    cells = read_cells(root)
    header, rows = sweep_table(cells)
    failed = [cell for cell in cells if cell.error is not None]
    text = table(header, rows)
    lines = [f"# Sweep {name}", text]
    lines += ["## Failed", *(f"- `{c.name}`: {c.error}" for c in failed)] if failed else []
    write_text(root / TABLE, "\n\n".join(lines) + "\n")
    recorded = start(tracker, root, RunInfo(f"{name} (table)", "sweep", {}, group=name), print)
    recorded.table("sweep", header, rows)
    recorded.finish({"cells": len(cells), "failed": len(failed)})
    print(f"\n{text}\n\ntable: {root / TABLE}", flush=True)
    if failed:
        for cell in failed:
            again = shlex.join([*command.split(), *cell.overrides])
            print(f"\n{cell.name} failed: {cell.error}\n  again: {again}", flush=True)
        raise PmError(f"{len(failed)} of {len(cells)} cells failed; the others are finished")


def _varied(cells: Sequence[Cell]) -> list[str]:
    """Keys that differ between cells, the seed left out, in the order of the command line."""
    keys = list(dict.fromkeys(key for cell in cells for key in cell.settings if key != _SEED))
    return [key for key in keys if len({cell.settings.get(key) for cell in cells}) > 1]


def _swept_seeds(cells: Sequence[Cell]) -> bool:
    return any(_SEED in cell.settings for cell in cells)


def _values(folder: Path) -> dict[str, float]:
    summary: dict[str, Any] = read_summary(folder) or {}
    lines = read_metrics(folder / METRICS)
    if not summary or not lines:
        return {}
    last = [line for line in lines if line["step"] > 0.9 * summary["steps"]] or lines[-1:]
    mean = lambda key: statistics.fmean(line[key] for line in last)  # noqa: E731
    return dict(zip(COLUMNS, (mean("loss"), mean("samples_per_s"), summary["seconds"] / 60), strict=True))
