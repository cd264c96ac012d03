"""The files that say what a run is and whether it is finished."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pm.errors import counted
from pm.files import write_json
from pm.train.run.config import RunConfig

ADAPTER, SUMMARY = "adapter.safetensors", "summary.json"
CHECKPOINTS = "checkpoints"  # folder inside a run
STOP = ".stop"  # a file in the run's folder: save and end


def label(config: RunConfig, run_dir: Path) -> str:
    """What to call a run: its name, and for a cell of a sweep the cell's."""
    return config.name if run_dir.name == Path(config.name).name else f"{config.name}/{run_dir.name}"


def write_summary(
    run_dir: Path, config: RunConfig, metrics: Mapping[str, Any], seconds: float, dataset: str | None = None
) -> None:
    """Mark a run as finished; `dataset` is the fingerprint of what it was trained on."""
    summary = {"steps": config.train.steps, "seconds": round(seconds, 3), "dataset": dataset, "metrics": dict(metrics)}
    write_json(run_dir / SUMMARY, summary, indent=2)


def read_summary(run_dir: Path) -> dict[str, Any] | None:
    """The summary of a finished run, else None."""
    try:
        return json.loads((run_dir / SUMMARY).read_text())
    except (OSError, ValueError):
        return None


def in_words(run_dir: Path) -> str:
    """A finished run's steps, time and last loss."""
    summary = json.loads((run_dir / SUMMARY).read_text())
    seconds, loss = summary["seconds"], summary["metrics"].get("loss")
    time = f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.1f} s"
    return f"{counted(summary['steps'], 'step')} in {time}{f', loss {loss:.4f}' if loss is not None else ''}"


def is_finished(run_dir: Path, config: RunConfig) -> bool:
    """Whether the run has all the steps that are asked for, and its adapter."""
    summary = read_summary(run_dir)
    return summary is not None and summary["steps"] >= config.train.steps and (run_dir / ADAPTER).exists()
