"""The files that say what a run is and whether it is finished."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pm.errors import ConfigError
from pm.files import write_json, write_text
from pm.train.run.config import RunConfig

ADAPTER, CONFIG, SUMMARY = "adapter.safetensors", "config.yaml", "summary.json"
CHECKPOINTS = "checkpoints"  # folder inside a run
STOP = ".stop"  # a file in the run's folder: save and end
# A run may go on with other values of these: they change how long and how, not what is computed.
_FREE = {
    "name": None,
    "profile": None,
    "workers": None,
    "tracker": None,
    "validation": None,
    "engine": None,
    "train": {"steps", "micro_batch_size", "log_every", "validate_every", "checkpoint_every", "num_to_keep"}
    | {"best_metric", "best_mode"},
    "base": {"family"},  # the base itself is compared by its fingerprint
    "adapter": {"gradient_checkpointing"},
}


def label(config: RunConfig, run_dir: Path) -> str:
    """What to call a run: its name, and for a cell of a sweep the cell's."""
    return config.name if run_dir.name == Path(config.name).name else f"{config.name}/{run_dir.name}"


def write_summary(run_dir: Path, config: RunConfig, metrics: Mapping[str, Any], seconds: float) -> None:
    """Mark a run as finished."""
    summary = {"steps": config.train.steps, "seconds": round(seconds, 3), "metrics": dict(metrics)}
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
    return f"{summary['steps']} steps in {time}{f', loss {loss:.4f}' if loss is not None else ''}"


def is_finished(run_dir: Path, config: RunConfig) -> bool:
    """Whether the run has all the steps that are asked for, and its adapter."""
    summary = read_summary(run_dir)
    return summary is not None and summary["steps"] >= config.train.steps and (run_dir / ADAPTER).exists()


def write_config(run_dir: Path, config: RunConfig) -> None:
    """Write `config.yaml`, the resolved config; a run that goes on must agree with the one that is there.

    Raises:
        ConfigError: something that defines the run has changed.
    """
    import yaml

    path = run_dir / CONFIG
    now = json.loads(json.dumps(asdict(config)))  # tuples become lists, as they are in the file
    if path.exists():
        before = _todays_names(yaml.safe_load(path.read_text()))
        changed = [f"{key}={old!r} (now {new!r})" for key, old, new in _differences(before, now)]
        if changed:
            raise ConfigError(
                f"run {run_dir} was started with {', '.join(changed)}; choose another name= for a new run, "
                "or give the same settings to go on"
            )
    write_text(path, yaml.safe_dump(now, sort_keys=False))


def _todays_names(config: dict[str, Any]) -> dict[str, Any]:
    """A run's config as version 0.1 wrote it, in today's names."""
    train = dict(config.get("train") or {})
    gamma = train.pop("min_snr_gamma", None)
    if isinstance(train.get("loss_weights"), str):
        train["loss_weights"] = {"name": train["loss_weights"]}
        if train["loss_weights"]["name"] == "min_snr":
            train["loss_weights"]["gamma"] = gamma
    return config | {"train": train}


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Settings outside `_FREE` that differ, as (dotted key, old, new)."""
    found = []
    for key in now:
        free = _FREE.get(key, set())
        if free is None:
            continue
        old, new = before.get(key), now[key]
        if not isinstance(new, Mapping):
            found += [(key, old, new)] if old != new else []
            continue
        old = old or {}
        found += [(f"{key}.{k}", old.get(k), v) for k, v in new.items() if k not in free and old.get(k) != v]
    return found
