"""The report in the tracker: a table with every row, the picture, and the page."""

from pathlib import Path

from pm.evaluate.scores import ReportRow
from pm.track.base import RunInfo, TrackerChoice, start


def record(choice: TrackerChoice, output: Path, rows: list[ReportRow]) -> None:
    """Log `rows`, `grid.png` and `report.html` of `output` as one run named after that folder.

    An outage is reported, not raised.
    """
    if not rows:
        return
    tracker = start(choice, output, RunInfo(f"evaluate-{output.name}", "evaluate", {}), print)
    # The picture names a step, 0, and wandb drops what names an earlier one than it has: a table alone is a step too.
    tracker.picture("grid", output / "grid.png", 0)
    tracker.page("page", output / "report.html")
    columns, values = ["name", *rows[0].scores, "seconds_per_image"], []
    for row in rows:
        means = [None if (v := row.interval(name)) is None else v.mean for name in row.scores]
        values.append([row.name, *means, row.seconds_per_image])
    tracker.table("report", columns, values)
    tracker.finish({})
