"""What was measured, on disk: for each column the values of every trial, and its model.

A value counts as long as it is of the same metric with the same settings and model, and of the same pictures, photos
and prompt; everything else is measured again, and nothing more.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pm.evaluate.metrics.base import Measured, Metric, MetricChoice
from pm.evaluate.store import Store
from pm.files import replace_file, write_json

Known = dict[str, list[Measured | None]]  # by column, of each trial in order; None: not measured


def known_values(store: Store, key: str, choices: Sequence[MetricChoice], metrics: Mapping[str, Metric | str]) -> Known:
    """What is known of a row's pictures as they are now, in every column whose metric can be had."""
    pictures = store.fingerprints(key)
    return {
        choice.key: _read(store, key, choice, metric, pictures)
        for choice in choices
        if not isinstance(metric := metrics[choice.key], str)
    }


def lacking(store: Store, known: Known) -> dict[int, frozenset[str]]:
    """Columns that have no value yet, of each trial that lacks any."""
    found = {t: frozenset(name for name, of in known.items() if of[t] is None) for t in range(len(store.trials))}
    return {t: names for t, names in found.items() if names}


def keep_values(
    store: Store, key: str, choices: Sequence[MetricChoice], metrics: Mapping[str, Metric | str], known: Known
) -> None:
    """Keep what is known of a row; a file that has no more than is known is replaced."""
    pictures = store.fingerprints(key)
    for choice in choices:
        metric = metrics[choice.key]
        if isinstance(metric, str):
            continue
        old = _read(store, key, choice, metric, pictures)
        found = [one if one is not None else other for one, other in zip(known[choice.key], old, strict=True)]
        if [m is not None for m in found] != [m is not None for m in old]:
            _write(store, key, choice, metric, found, pictures)


def _file(store: Store, key: str, column: str) -> Path:
    return store.output / "values" / key / f"{column}.json"


def _made_by(choice: MetricChoice, metric: Metric) -> dict[str, Any]:
    model = None if metric.model is None else dataclasses.asdict(metric.model)
    settings = dataclasses.asdict(choice) | {"column": None}  # how it is called changes no value
    found: dict[str, Any] = json.loads(json.dumps({"settings": settings, "model": model}))
    return found


def _write(
    store: Store,
    key: str,
    choice: MetricChoice,
    metric: Metric,
    found: Sequence[Measured | None],
    pictures: Sequence[str | None],
) -> None:
    file, nothing = _file(store, key, choice.key), Measured([])
    trials = [
        {"person": t.person, "template": t.template, "of": None if m is None else of}
        | {"values": list((m or nothing).values)}
        | {"per_attribute": {k: list(v) for k, v in (m or nothing).per_attribute.items()}}
        for t, m, of in zip(store.trials, found, pictures, strict=True)
    ]
    features = {str(i): m.features for i, m in enumerate(found) if m is not None and m.features is not None}
    if features:
        with replace_file(file.with_suffix(".npz"), sync=False) as temporary, temporary.open("wb") as stream:
            np.savez(stream, **features)  # type: ignore[arg-type]
    write_json(file, _made_by(choice, metric) | {"features": bool(features), "trials": trials}, sync=False)


def _read(
    store: Store, key: str, choice: MetricChoice, metric: Metric, pictures: Sequence[str | None]
) -> list[Measured | None]:
    """Of each trial what was measured of these very pictures."""
    file, nothing = _file(store, key, choice.key), [None] * len(store.trials)
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        features: Mapping[str, np.ndarray] = {}
        if content["features"]:
            with np.load(file.with_suffix(".npz"), allow_pickle=False) as stored:
                features = dict(stored)
        trials = [
            (t["of"], t["values"], features.get(str(i)), t["per_attribute"]) for i, t in enumerate(content["trials"])
        ]
        if {k: content[k] for k in ("settings", "model")} != _made_by(choice, metric) or len(trials) != len(nothing):
            return list(nothing)
    except (OSError, ValueError, KeyError, TypeError):
        return list(nothing)
    return [
        Measured(*measured) if of is not None and of == picture else None
        for (of, *measured), picture in zip(trials, pictures, strict=True)
    ]
