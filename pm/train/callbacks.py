"""Who is told how the training goes: the metrics file, the terminal, Weights & Biases."""

import json
import os
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pm.tracking import WandbConfig, start_run

METRICS, PROGRESS = "metrics.jsonl", ".progress.json"


class Callback:
    """Hooks of the training loop; all do nothing by default. Called on every rank, at the same points."""

    def on_start(self, step: int, steps: int) -> None:
        """Before the first step of this process; `step` steps of `steps` are done already."""

    def on_step(self, step: int) -> None:
        """After each optimizer update."""

    def on_log(self, metrics: Mapping[str, Any]) -> None:
        """Every `log_every` steps; `metrics` are means since the last time, over all workers."""

    def on_pictures(self, step: int, path: Path) -> None:
        """After a validation wrote a picture."""

    def on_end(self, summary: Mapping[str, Any]) -> None:
        """After the last step and the export."""


class MetricsFile(Callback):
    """`metrics.jsonl`: one JSON object per line, whatever happens to the run."""

    def __init__(self, run_dir: Path):
        self._path = run_dir / METRICS

    def on_start(self, step: int, steps: int) -> None:
        # A run that goes on from a checkpoint repeats the steps after it; their old lines must not stay.
        kept = [line for line in read_metrics(self._path) if line["step"] <= step]
        write_text(self._path, "".join(json.dumps(line) + "\n" for line in kept))

    def on_log(self, metrics: Mapping[str, Any]) -> None:
        with self._path.open("a") as stream:
            stream.write(json.dumps(dict(metrics)) + "\n")


class Progress(Callback):
    """A small file that the driver's progress bar reads, rewritten at most a few times a second."""

    def __init__(self, run_dir: Path, every_seconds: float = 0.4):
        self._path, self._every = run_dir / PROGRESS, every_seconds
        self._state: dict[str, Any] = {}
        self._written = 0.0

    def phase(self, text: str) -> None:
        """What is going on outside the steps, for example "loading the base model"."""
        self._state["phase"] = text
        self._write()

    def on_start(self, step: int, steps: int) -> None:
        self._state |= {"phase": "training", "step": step, "start": step, "steps": steps}
        self._write()

    def on_step(self, step: int) -> None:
        self._state["step"] = step
        if time.monotonic() - self._written > self._every:
            self._write()

    def on_log(self, metrics: Mapping[str, Any]) -> None:
        self._state |= {key: metrics[key] for key in ("loss", "samples_per_s")}
        self._write()

    def on_pictures(self, step: int, path: Path) -> None:
        self._state["pictures"] = str(path)

    def on_end(self, summary: Mapping[str, Any]) -> None:
        self._state["phase"] = "finished"
        self._write()

    def _write(self) -> None:
        write_text(self._path, json.dumps(self._state))
        self._written = time.monotonic()


class Wandb(Callback):
    """Weights & Biases. A run that is started again goes on under the same id."""

    def __init__(self, run_dir: Path, name: str, options: WandbConfig, settings: Mapping[str, Any]):
        self._run_dir, self._name, self._options, self._settings = run_dir, name, options, settings
        self._run: Any = None

    def on_start(self, step: int, steps: int) -> None:
        identity = self._run_dir / ".wandb-id"
        if not identity.exists():
            write_text(identity, secrets.token_hex(4))
        self._run = start_run(
            self._options,
            self._run_dir,
            name=self._name,
            id=identity.read_text(),
            resume="allow",
            config=dict(self._settings),
        )

    def on_log(self, metrics: Mapping[str, Any]) -> None:
        self._run.log({f"train/{k}": v for k, v in metrics.items() if k != "step"}, step=metrics["step"])

    def on_pictures(self, step: int, path: Path) -> None:
        import wandb

        self._run.log({"validation": wandb.Image(str(path))}, step=step)

    def on_end(self, summary: Mapping[str, Any]) -> None:
        self._run.summary.update(dict(summary))
        self._run.finish()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics file; a last line that was cut off in writing is left out."""
    found = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def write_text(path: Path, text: str) -> None:
    """Write a file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name.lstrip('.')}.{os.getpid()}.tmp")
    temporary.write_text(text)
    temporary.replace(path)
