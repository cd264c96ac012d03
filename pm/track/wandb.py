"""Weights & Biases. A resumed training run keeps its id; without a key it stays local."""

import netrc
import os
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast
from urllib.parse import urlparse

from pm.errors import reason
from pm.files import write_text
from pm.track.base import RunInfo, Tracker, TrackerChoice

ID_FILE = ".wandb-id"
_FINISH_SECONDS = 120.0  # to send what is left


@dataclass(frozen=True)
class WandbChoice(TrackerChoice):
    """Where and how Weights & Biases records."""

    mode: Literal["auto", "online", "offline"]
    project: str
    entity: str | None
    run_group: str | None  # None: a sweep's runs are grouped under its name
    tags: tuple[str, ...]

    def build(self, folder: Path, run: RunInfo, tell: Callable[[str], None]) -> "WandbTracker":
        import wandb

        mode = self.effective_mode()
        try:
            return WandbTracker(self._start(folder, run, mode))
        except Exception as error:  # wandb's own errors, the network
            if mode == "offline":
                raise
            tell(f"Weights & Biases could not start in mode {mode} ({reason(error)}); recording offline")
        wandb.teardown()  # it keeps the id of a run that did not start
        return WandbTracker(self._start(folder, run, "offline"))

    def effective_mode(self) -> str:
        """`auto` is online with a key (WANDB_API_KEY or ~/.netrc) and offline without; WANDB_MODE wins over `auto`."""
        if self.mode != "auto":
            return self.mode
        if os.environ.get("WANDB_MODE"):
            return os.environ["WANDB_MODE"]
        return "online" if os.environ.get("WANDB_API_KEY") or _has_netrc_entry() else "offline"

    def _start(self, folder: Path, run: RunInfo, mode: str) -> Any:
        import wandb

        folder.mkdir(parents=True, exist_ok=True)
        again: dict[str, Any] = (
            {"id": _identity(folder), "resume": "allow"} if run.job == "train" else {"job_type": run.job}
        )
        return wandb.init(
            project=self.project,
            entity=self.entity,
            group=self.run_group or run.group,
            tags=list(self.tags),
            name=run.name,
            config=dict(run.settings),
            dir=str(folder),
            mode=cast(Any, mode),
            settings=wandb.Settings(silent=True, console="off"),
            **again,
        )


class WandbTracker(Tracker):
    """A wandb run that has begun."""

    def __init__(self, run: Any):
        self._run = run

    def metrics(self, values: Mapping[str, Any], step: int) -> None:
        self._run.log(dict(values), step=step)

    def picture(self, name: str, path: Path, step: int) -> None:
        import wandb

        self._run.log({name: wandb.Image(str(path))}, step=step)

    def page(self, name: str, path: Path) -> None:
        import wandb

        self._run.log({name: wandb.Html(str(path), inject=False)})  # as it is: it allows no style sheet from elsewhere

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        import wandb

        self._run.log({name: wandb.Table(columns=list(columns), data=[list(row) for row in rows])})

    def finish(self, summary: Mapping[str, Any]) -> None:
        failed: list[Exception] = []

        def finish() -> None:
            try:
                self._run.summary.update(dict(summary))
                self._run.finish()
            except Exception as error:
                failed.append(error)

        # Without a network wandb would retry for days; everything is in the run's folder for `wandb sync`.
        thread = threading.Thread(target=finish, daemon=True)
        thread.start()
        thread.join(_FINISH_SECONDS)
        if failed:
            raise failed[0]


def _identity(folder: Path) -> str:
    """The id that a resumed training run keeps."""
    path = folder / ID_FILE
    if not path.exists():
        write_text(path, secrets.token_hex(4))
    return path.read_text()


def _has_netrc_entry() -> bool:
    """Whether `wandb login` has left a key for the server in use."""
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
