"""The report in wandb: a table with every row, and the picture."""

from pathlib import Path

from pm.evaluate.protocol import ReportRow
from pm.tracking import WandbConfig, start_run

COLUMNS = ["name", "identity", "prompt", "diversity", "seconds_per_image"]


def record(config: WandbConfig, output: Path, rows: list[ReportRow]) -> None:
    """Log `rows` and `output/grid.png` as one run named after the output folder; does nothing when disabled."""
    if not config.enabled:
        return
    import wandb

    table = wandb.Table(columns=COLUMNS)
    for row in rows:
        spread = None if row.diversity is None else row.diversity.mean
        table.add_data(row.name, row.identity.mean, row.prompt.mean, spread, row.seconds_per_image)
    try:
        run = start_run(config, output, name=f"evaluate-{output.name}", job_type="evaluate")
        run.log({"report": table, "grid": wandb.Image(str(output / "grid.png"))})
        run.finish()
    except wandb.Error as error:
        # The report is on disk already; a recorder's outage must not turn it into a failure.
        print(f"wandb did not record the report: {error}")
