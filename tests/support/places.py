"""Folders with runs, a dataset and an evaluation, as the commands write them."""

import dataclasses
import json
from pathlib import Path

import numpy as np
from PIL import Image

from pm.evaluate.report import Report, write_report
from support.evaluating import config as evaluation_config
from support.evaluation import CONFIG, trials_of
from support.photos import write_dataset
from support.reporting import fill, rows_of


def write_run(folder: Path, steps: int = 2, of: int = 2, pictures: int = 1, **train) -> Path:
    """A run with curves and validation pictures; finished where it has all its steps."""
    (folder / "validation").mkdir(parents=True)
    (folder / "config.yaml").write_text(json.dumps({"dataset": "data/x", "train": {"steps": of, **train}}))
    noise = np.random.default_rng(0).normal(scale=0.02, size=steps)
    lines = [
        {"step": i, "loss": 1 / i + abs(noise[i - 1]), "samples_per_s": 5.0, "grad_norm": 0.4}
        for i in range(1, steps + 1)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for i in range(1, pictures + 1):
        Image.new("RGB", (24, 8), (40 * i % 255, 90, 160)).save(
            folder / "validation" / f"step-{i * steps // pictures:08d}.png"
        )
    if steps == of:
        (folder / "summary.json").write_text(json.dumps({"steps": steps, "seconds": 1.0, "metrics": {"loss": 0.5}}))
        (folder / "adapter.safetensors").write_bytes(b"weights")
    return folder


def write_places(folder: Path) -> Path:
    """`runs` with a run in a sweep and an evaluation, `data` with a dataset."""
    write_run(folder / "runs" / "sweep" / "one")
    write_dataset(folder / "data" / "mine", {"anna_woman": 3, "ben_man": 2}, rejected=2)
    trials, out = trials_of(CONFIG), folder / "runs" / "evaluate"
    rows = rows_of(trials)
    fill(out, trials, rows)
    wanted = dataclasses.replace(evaluation_config(Path("/no/base"), folder), output=str(out))
    write_report(Report(wanted, trials, rows, 2, (), ""))
    return folder
