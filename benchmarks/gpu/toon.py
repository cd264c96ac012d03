"""The toon world on the device: an adapter of the shipped base trained to convergence, and the base itself."""

import subprocess
import sys
import time
from typing import Any

from benchmarks.fullsize import here
from benchmarks.gpu.rig import Rig, Row

BASE = here.ROOT / "assets" / "toon"


def rows(rig: Rig) -> dict[str, Row]:
    return {"toon adapter": lambda: _adapter(rig), "toon base": lambda: _base(rig)}


def _adapter(rig: Rig) -> dict[str, Any]:
    """`experiment=toon` in this process: its loss and speed, and how long it takes."""
    people, steps, batch = (1000, 20_000, 32) if rig.full else (6, 2, 4)
    data, run = rig.home / "toon-data", rig.home / "toon-run"
    row: dict[str, Any] = {"people": people, "steps": steps}
    if not (data / "dataset.json").exists():
        settings = here.preprocess_settings(rig.home / "toon-photos", BASE, data, people, 8, "float32")
        settings["workers"] |= {"batch_size": 64}
        start = time.monotonic()
        row["photos"] = here.preprocess(settings, rig.device)
        row["preprocess_s"] = time.monotonic() - start
    how = {"steps": steps, "batch_size": batch, "log_every": max(1, steps // 200), "checkpoint_every": steps // 2}
    settings = here.train_settings(data, BASE, "ddp", "toon", **how)
    start = time.monotonic()
    metrics = here.train(settings, run, rig.device)
    row |= {"train_s": time.monotonic() - start, "samples_per_s": metrics["samples_per_s"], "loss": metrics["loss"]}
    return row


def _base(rig: Rig) -> dict[str, Any]:
    """`python -m pm.toon.pretrain`, whole; resumed if it was cut off. In a dry run only its options are read."""
    home = rig.home / "toon-base"
    command = [sys.executable, "-m", "pm.toon.pretrain", "--out", str(home / "out"), "--work", str(home / "work")]
    start = time.monotonic()
    left = max(1.0, min(rig.left(), 10**6))
    given = command if rig.full else [*command, "--help"]
    try:
        subprocess.run(given, cwd=here.ROOT, check=True, timeout=left, stdout=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        return {"error": "cut off by the budget; the same command goes on with it", "seconds": left}
    return {"seconds": time.monotonic() - start, "dry": not rig.full}
