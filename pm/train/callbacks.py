"""Who is told how the training goes: the metrics file, the terminal, Weights & Biases."""

import json
import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from pm.errors import reason
from pm.files import write_json, write_text
from pm.tracking import WandbConfig, start_run, wandb_mode

METRICS, PROGRESS = "metrics.jsonl", ".progress.json"
_FINISH_SECONDS = 120.0  # to send what is left to Weights & Biases
_log = logging.getLogger(__name__)


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

    def on_stop(self, step: int) -> None:
        """After a run that was asked to stop has saved itself; it is not finished."""

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

    def note(self, text: str) -> None:
        """A line for the terminal, beside the progress."""
        self._state["note"] = text
        self._write()

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

    def on_stop(self, step: int) -> None:
        self._state |= {"phase": "stopped", "step": step}
        self._write()

    def on_end(self, summary: Mapping[str, Any]) -> None:
        self._state["phase"] = "finished"
        self._write()

    def _write(self) -> None:
        write_json(self._path, self._state, sync=False)
        self._written = time.monotonic()


class Wandb(Callback):
    """Weights & Biases. A run that is started again goes on under the same id; no outage stops the training."""

    def __init__(
        self,
        run_dir: Path,
        name: str,
        options: WandbConfig,
        settings: Mapping[str, Any],
        tell: Callable[[str], None] = _log.warning,
    ):
        """`tell` is called with a line about every outage."""
        self._run_dir, self._name, self._options, self._settings = run_dir, name, options, settings
        self._tell = tell
        self._run: Any = None

    def on_start(self, step: int, steps: int) -> None:
        identity = self._run_dir / ".wandb-id"
        if not identity.exists():
            write_text(identity, secrets.token_hex(4))
        for options in (self._options, replace(self._options, mode="offline")):
            with self._no_failure(f"start in mode {wandb_mode(options)}"):
                self._run = start_run(
                    options,
                    self._run_dir,
                    name=self._name,
                    id=identity.read_text(),
                    resume="allow",
                    config=dict(self._settings),
                )
                return
            with self._no_failure("end its service"):
                import wandb

                wandb.teardown()  # it keeps the id of a run that did not start

    def on_log(self, metrics: Mapping[str, Any]) -> None:
        if self._run is not None:
            with self._no_failure("log"):
                self._run.log({f"train/{k}": v for k, v in metrics.items() if k != "step"}, step=metrics["step"])

    def on_pictures(self, step: int, path: Path) -> None:
        if self._run is not None:
            import wandb

            with self._no_failure("log a picture"):
                self._run.log({"validation": wandb.Image(str(path))}, step=step)

    def on_stop(self, step: int) -> None:
        self._finish({})

    def on_end(self, summary: Mapping[str, Any]) -> None:
        self._finish(summary)

    def _finish(self, summary: Mapping[str, Any]) -> None:
        if self._run is None:
            return

        def finish() -> None:
            with self._no_failure("finish"):
                self._run.summary.update(dict(summary))
                self._run.finish()

        # Without a network wandb would retry for days; everything is in the run's folder for `wandb sync`.
        thread = threading.Thread(target=finish, daemon=True)
        thread.start()
        thread.join(_FINISH_SECONDS)

    @contextmanager
    def _no_failure(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # wandb's own errors, its service gone, the network: none is worth a training
            self._tell(
                f"Weights & Biases could not {what} ({reason(error)}); training goes on, metrics.jsonl has everything"
            )


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics file; a last line that was cut off in writing is left out."""
    found = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found
