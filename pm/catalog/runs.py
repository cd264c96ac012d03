"""Training runs: how each stands, its curves, settings and validation pictures."""

import json
import time
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

import yaml

from pm.catalog.root import Root
from pm.errors import DataError
from pm.train.callbacks.metrics import METRICS
from pm.train.callbacks.progress import PROGRESS
from pm.train.run.resume import CONFIG
from pm.train.run.summary import ADAPTER, CHECKPOINTS, STOP, SUMMARY

PICTURES = "validation"
_FRESH_S = 90.0  # a run whose files changed within this is taken for running
_POINTS = 1500  # of a curve that is sent; a long one is thinned


def runs(root: Root) -> list[dict[str, Any]]:
    """All runs below a place, newest first, each as `described` says it."""
    folders = {PurePosixPath(entry.name).parent.as_posix() for entry in root.find((CONFIG, METRICS, SUMMARY))}
    found = [run for folder in sorted(folders) if (run := _described(root, folder)) is not None]
    return sorted(found, key=lambda run: -run["changed"])


def described(root: Root, name: str) -> dict[str, Any]:
    """How one run stands.

    Returns:
        "name", "status" ("finished", "running", "stopped" or "interrupted"), "step", "steps", "changed" (seconds since
        the epoch), "loss", "adapter" and "resume": the command that goes on, None where nothing is left to do.

    Raises:
        DataError: there is no run of this name.
    """
    run = _described(root, name)
    if run is None:
        raise DataError(f"no run {name!r} in {root.place}")
    return run


def _described(root: Root, name: str) -> dict[str, Any] | None:
    files = {PurePosixPath(entry.name).name: entry for entry in root.entries(name)}
    if METRICS not in files and SUMMARY not in files:
        return None
    config, progress = _config(root, name), _json(root, f"{name}/{PROGRESS}") or {}
    summary = _json(root, f"{name}/{SUMMARY}")
    last = _last_line(root, name) if METRICS in files else {}
    step = (summary or {}).get("steps") or max(progress.get("step") or 0, last.get("step") or 0)
    steps = _at(config, "train", "steps") or progress.get("steps") or step
    changed = max(entry.changed for entry in files.values())
    status = _status(summary, progress, step, steps, changed, STOP in files)
    return {
        "name": name,
        "status": status,
        "step": step,
        "steps": steps,
        "changed": changed,
        "loss": last.get("loss"),
        "samples_per_s": last.get("samples_per_s"),
        "phase": progress.get("phase"),
        "adapter": f"{name}/{ADAPTER}" if ADAPTER in files else None,
        "seconds": (summary or {}).get("seconds"),
        "resume": None if status in ("finished", "running") else _resume(root, name, config),
    }


def _status(
    summary: Mapping[str, Any] | None,
    progress: Mapping[str, Any],
    step: int,
    steps: int,
    changed: float,
    stopping: bool,
) -> str:
    if summary is not None and step >= steps:
        return "finished"
    if progress.get("phase") == "stopped":
        return "stopped"
    if time.time() - changed < _FRESH_S:
        return "stopping" if stopping else "running"
    return "interrupted"


def _resume(root: Root, name: str, config: Mapping[str, Any]) -> str:
    """The command that goes on: a run's folder has its name, dataset and settings."""
    data = config.get("dataset") or "DATASET"
    storage = "" if root.local and root.folder.name == "runs" else f" storage_path={root.place}"
    return f"photomaker train data={data} name={name}{storage}"


def details(root: Root, name: str) -> dict[str, Any]:
    """A run with its settings, pictures and checkpoints.

    Raises:
        DataError: there is no run of this name.
    """
    run = described(root, name)
    pictures = [entry for entry in root.entries(f"{name}/{PICTURES}") if entry.name.endswith(".png")]
    shown = [{"step": step, "file": entry.name} for entry in pictures if (step := _step(entry.name)) is not None]
    kept = sorted({PurePosixPath(entry).parent.name for entry in _checkpoints(root, name)})
    return run | {
        "settings": flattened(_config(root, name)),
        "pictures": shown,
        "checkpoints": kept,
        "summary": _json(root, f"{name}/{SUMMARY}"),
    }


def curves(root: Root, name: str, after: int = -1) -> dict[str, Any]:
    """What a run has measured, as columns.

    Args:
        root: where it is.
        name: of the run.
        after: only lines of later steps, for those who have the earlier ones.

    Returns:
        "step" and every other number of `metrics.jsonl` by its name, lists of one length with None where a line has
        none. At most `_POINTS` lines, evenly thinned, always with the last one.

    Raises:
        DataError: there is no run of this name.
    """
    described(root, name)
    lines = [line for line in _lines(root, name) if line.get("step", -1) > after]
    if len(lines) > _POINTS:
        stride = -(-len(lines) // _POINTS)
        lines = lines[(len(lines) - 1) % stride :: stride]
    names = dict.fromkeys(key for line in lines for key, value in line.items() if isinstance(value, int | float))
    return {key: [_finite(line.get(key)) for line in lines] for key in names}


def differences(root: Root, first: str, second: str) -> list[dict[str, Any]]:
    """Settings that two runs do not share: {"setting", "first", "second"}; None where one lacks it.

    Raises:
        DataError: there is no run of one of the names.
    """
    described(root, first), described(root, second)
    a, b = flattened(_config(root, first)), flattened(_config(root, second))
    keys = [key for key in {**a, **b} if a.get(key) != b.get(key)]
    return [{"setting": key, "first": a.get(key), "second": b.get(key)} for key in keys]


def flattened(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their dotted names."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= flattened(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def _checkpoints(root: Root, name: str) -> list[str]:
    """Files that are in a checkpoint, by their names; only local folders are looked through."""
    if not root.local:
        return []
    return [path.relative_to(root.folder).as_posix() for path in (root.folder / name / CHECKPOINTS).glob("step-*/*")]


def _lines(root: Root, name: str) -> list[dict[str, Any]]:
    if root.stat(f"{name}/{METRICS}") is None:
        return []
    found = []
    for line in root.read(f"{name}/{METRICS}").decode("utf-8", "replace").splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:  # cut off in writing
            continue
    return [line for line in found if isinstance(line, dict)]


def _last_line(root: Root, name: str) -> dict[str, Any]:
    lines = _lines(root, name)
    return lines[-1] if lines else {}


def _config(root: Root, name: str) -> dict[str, Any]:
    if root.stat(f"{name}/{CONFIG}") is None:
        return {}
    try:
        found = yaml.safe_load(root.read(f"{name}/{CONFIG}"))
    except yaml.YAMLError:
        return {}
    return found if isinstance(found, dict) else {}


def _json(root: Root, name: str) -> dict[str, Any] | None:
    if root.stat(name) is None:
        return None
    try:
        found = json.loads(root.read(name))
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _at(values: Mapping[str, Any], *path: str) -> Any:
    for key in path:
        values = values.get(key) if isinstance(values, Mapping) else None  # type: ignore[assignment]
    return values


def _step(file: str) -> int | None:
    digits = PurePosixPath(file).stem.removeprefix("step-")
    return int(digits) if digits.isdigit() else None


def _finite(value: Any) -> float | None:
    """JSON has neither NaN nor infinity."""
    return value if isinstance(value, int | float) and abs(value) < float("inf") else None
