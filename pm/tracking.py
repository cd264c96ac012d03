"""Weights & Biases, as every room that records something uses it."""

import netrc
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlparse


@dataclass(frozen=True)
class WandbConfig:
    """Where runs are recorded (`conf/tracker/*.yaml`)."""

    enabled: bool
    mode: Literal["auto", "online", "offline"]
    project: str
    entity: str | None
    group: str | None  # runs that belong together; a sweep sets its name
    tags: tuple[str, ...]


def wandb_mode(config: WandbConfig) -> str:
    """`auto` is online with a key (WANDB_API_KEY or ~/.netrc) and offline without; WANDB_MODE wins over `auto`."""
    if config.mode != "auto":
        return config.mode
    if os.environ.get("WANDB_MODE"):
        return os.environ["WANDB_MODE"]
    return "online" if os.environ.get("WANDB_API_KEY") or _has_netrc_entry() else "offline"


def _has_netrc_entry() -> bool:
    """Whether `wandb login` has left a key for the server in use."""
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def start_run(config: WandbConfig, folder: Path, /, **options: Any) -> Any:
    """A quiet wandb run whose files lie in `folder`; `options` go to `wandb.init`."""
    import wandb

    return wandb.init(
        project=config.project,
        entity=config.entity,
        group=config.group,
        tags=list(config.tags),
        dir=str(folder),
        mode=wandb_mode(config),
        settings=wandb.Settings(silent=True, console="off"),
        **options,
    )
