"""`metrics.jsonl`, a run's own record."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pm.files import write_text
from pm.train.callbacks.base import Callback

METRICS = "metrics.jsonl"


class MetricsFile(Callback):
    """`metrics.jsonl`: one JSON object per line, whatever happens to the run."""

    def __init__(self, run_dir: Path):
        self._path = run_dir / METRICS

    def on_start(self, step: int, steps: int) -> None:
        # A run resumed from a checkpoint repeats the steps after it; their old lines must not stay.
        kept = [line for line in read_metrics(self._path) if line["step"] <= step]
        write_text(self._path, "".join(json.dumps(line) + "\n" for line in kept))

    def on_log(self, metrics: Mapping[str, Any]) -> None:
        with self._path.open("a") as stream:
            stream.write(json.dumps(dict(metrics)) + "\n")


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics file; a last line that was cut off in writing is left out."""
    found = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found
