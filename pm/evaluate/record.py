"""The report in the tracker: a table with every row, and the picture."""

from pathlib import Path

from pm.evaluate.protocol import ReportRow
from pm.track.base import RunInfo, TrackerChoice, start

COLUMNS = ["name", "identity", "prompt", "diversity", "seconds_per_image"]


def record(choice: TrackerChoice, output: Path, rows: list[ReportRow]) -> None:
    """Log `rows` and `output/grid.png` as one run named after the output folder; an outage is reported, not raised."""
    tracker = start(choice, output, RunInfo(f"evaluate-{output.name}", "evaluate", {}), print)
    values = []
    for row in rows:
        spread = None if row.diversity is None else row.diversity.mean
        values.append([row.name, row.identity.mean, row.prompt.mean, spread, row.seconds_per_image])
    tracker.table("report", COLUMNS, values)
    tracker.picture("grid", output / "grid.png", 0)
    tracker.finish({})
