"""What `photomaker list` prints."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import Ge

from pm.catalog.adapters import adapters
from pm.catalog.datasets import datasets
from pm.catalog.pictures import pictures
from pm.catalog.reports import reports
from pm.catalog.root import Root
from pm.catalog.runs import runs
from pm.markdown import table

_UNITS = ((86400, "day"), (3600, "hour"), (60, "minute"))


@dataclass(frozen=True)
class ListConfig:
    """Settings of the command (`conf/list.yaml`)."""

    what: Literal["all", "runs", "adapters", "pictures", "datasets", "evaluations"]
    runs: str  # folder or URI of runs, adapters, pictures and evaluations
    data: str  # folder or URI of datasets
    last: Annotated[int, Ge(1)]  # of each kind, the newest
    json: bool


_KINDS: Mapping[str, tuple[str, Callable[[Root], list[dict[str, Any]]], Sequence[str]]] = {
    "runs": ("runs", runs, ("name", "status", "step", "steps", "loss", "changed")),
    "adapters": ("runs", adapters, ("name", "kind", "step", "bytes", "changed")),
    "pictures": ("runs", pictures, ("name", "pictures", "prompt", "changed")),
    "evaluations": ("runs", reports, ("name", "rows", "partial", "changed")),
    "datasets": ("data", datasets, ("name", "people", "photos", "found", "changed")),
}


def listing(config: ListConfig) -> str:
    """Tables of what is there, and how unfinished runs go on; or JSON.

    Raises:
        PmError: a place cannot be read.
    """
    roots = {"runs": Root(config.runs), "data": Root(config.data)}
    wanted = [config.what] if config.what != "all" else list(_KINDS)
    found = {kind: _KINDS[kind][1](roots[_KINDS[kind][0]]) for kind in wanted}
    if config.json:
        return json.dumps(found, indent=2)
    parts = [_part(kind, rows, roots[_KINDS[kind][0]].place, config.last) for kind, rows in found.items()]
    return "\n\n".join(parts)


def _part(kind: str, rows: list[dict[str, Any]], place: str, last: int) -> str:
    if not rows:
        return f"{kind} in {place}: none"
    columns, shown = _KINDS[kind][2], rows[:last]
    body = [[_cell(column, row.get(column)) for column in columns] for row in shown]
    more = f" (the newest {last} of {len(rows)})" if len(rows) > last else ""
    text = f"{kind} in {place}{more}\n{table(columns, body)}"
    on = [f"  {row['name']}: {row['resume']}" for row in shown if row.get("resume")]
    return text + ("\nto go on with what is not finished:\n" + "\n".join(on) if on else "")


def _cell(column: str, value: Any) -> str:
    if value is None:
        return "–"
    if column == "changed":
        past = max(0.0, time.time() - value)
        size, unit = next(((size, unit) for size, unit in _UNITS if past >= size), (0, ""))
        return f"{past / size:.0f} {unit}s ago" if size else "just now"
    if column == "bytes":
        return f"{value / 2**20:.1f} MiB"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    text = f"{value:.4f}" if isinstance(value, float) else " ".join(str(value).split())
    return text if len(text) <= 60 else text[:57] + "..."
