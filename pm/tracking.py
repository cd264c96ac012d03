"""Weights & Biases, as every room that records something uses it."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True)
class WandbConfig:
    """Where runs are recorded (`conf/tracker/*.yaml`)."""

    enabled: bool
    mode: Literal["auto", "online", "offline"]
    project: str
    entity: str | None
    tags: tuple[str, ...]


def wandb_mode(config: WandbConfig) -> str:
    """`auto` is online with a key (WANDB_API_KEY or ~/.netrc) and offline without; WANDB_MODE wins over `auto`."""
    if config.mode != "auto":
        return config.mode
    if os.environ.get("WANDB_MODE"):
        return os.environ["WANDB_MODE"]
    from wandb.sdk.lib import apikey

    return "online" if os.environ.get("WANDB_API_KEY") or apikey.api_key() else "offline"


def start_run(config: WandbConfig, folder: Path, **options: Any) -> Any:
    """A quiet wandb run whose files lie in `folder`; `options` go to `wandb.init`."""
    import wandb

    return wandb.init(
        project=config.project,
        entity=config.entity,
        tags=list(config.tags),
        dir=str(folder),
        mode=wandb_mode(config),
        settings=wandb.Settings(silent=True, console="off"),
        **options,
    )
