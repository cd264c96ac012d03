"""Folders of finished cells of a sweep."""

import json

from pm.track.none import NoTracker
from pm.train.run.sweep import write_cell

OFF = NoTracker("none")

STEPS = 20


def finished(root, name, overrides, losses=None, error=None):
    folder = root / name
    folder.mkdir(parents=True)
    if losses is not None:
        lines = [{"step": i + 1, "loss": loss, "samples_per_s": 8.0} for i, loss in enumerate(losses)]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        (folder / "summary.json").write_text(json.dumps({"steps": STEPS, "seconds": 120, "metrics": lines[-1]}))
    write_cell(folder, overrides, error)
