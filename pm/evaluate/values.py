"""What was measured of a finished row, on disk: for each metric the values of every trial, and its model."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pm.evaluate.metrics.base import Measured, Metric, MetricChoice
from pm.evaluate.store import Store
from pm.files import replace_file, write_json


def _file(store: Store, key: str, metric: str) -> Path:
    return store.output / "values" / key / f"{metric}.json"


def _made_by(choice: MetricChoice, metric: Metric) -> dict[str, Any]:
    model = None if metric.model is None else dataclasses.asdict(metric.model)
    found: dict[str, Any] = json.loads(json.dumps({"settings": dataclasses.asdict(choice), "model": model}))
    return found


def write(
    store: Store,
    key: str,
    choices: Sequence[MetricChoice],
    metrics: Mapping[str, Metric | str],
    found: Mapping[str, Sequence[Measured] | str],
) -> None:
    """Keep the values of a row whose pictures are all there."""
    for choice in choices:
        metric, measured = metrics[choice.name], found.get(choice.name, "")
        if isinstance(metric, str) or isinstance(measured, str):
            continue
        trials = [
            {"person": t.person, "template": t.template, "values": list(m.values)}
            | {"per_attribute": {k: list(v) for k, v in m.per_attribute.items()}}
            for t, m in zip(store.trials, measured, strict=True)
        ]
        file = _file(store, key, choice.name)
        features = {str(i): m.features for i, m in enumerate(measured) if m.features is not None}
        if features:
            with replace_file(file.with_suffix(".npz"), sync=False) as temporary, temporary.open("wb") as stream:
                np.savez(stream, **features)  # type: ignore[arg-type]
        write_json(file, _made_by(choice, metric) | {"features": bool(features), "trials": trials}, sync=False)


def read(
    store: Store, key: str, choices: Sequence[MetricChoice], metrics: Mapping[str, Metric | str]
) -> dict[str, list[Measured] | str] | None:
    """The values of a row, or None where a metric that can be had is missing, or was another one."""
    result: dict[str, list[Measured] | str] = {}
    for choice in choices:
        metric, file = metrics[choice.name], _file(store, key, choice.name)
        if isinstance(metric, str):
            result[choice.name] = metric
            continue
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            features: Mapping[str, np.ndarray] = {}
            if content["features"]:
                with np.load(file.with_suffix(".npz"), allow_pickle=False) as stored:
                    features = dict(stored)
            made_by = {k: content[k] for k in ("settings", "model")}
            trials = [
                Measured(t["values"], features.get(str(i)), t["per_attribute"]) for i, t in enumerate(content["trials"])
            ]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if made_by != _made_by(choice, metric) or len(trials) != len(store.trials):
            return None
        result[choice.name] = trials
    return result
