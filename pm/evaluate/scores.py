"""Pictures measured: for each metric a value of every person and prompt, and one of all with its interval."""

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from pm.errors import CheckpointError, ConfigError
from pm.evaluate.metrics.base import Measured, Metric, MetricChoice, Model, all_values
from pm.evaluate.statistics import Interval
from pm.methods.trial import Trial


@dataclasses.dataclass(frozen=True)
class Scored:
    """What a metric says of one row. `interval`: None where nothing applied."""

    interval: Interval | None
    model: Model | None = None
    per_person: Mapping[str, float] = dataclasses.field(default_factory=dict)
    per_prompt: Mapping[str, float] = dataclasses.field(default_factory=dict)  # by template
    why: str = ""  # there are no values
    per_category: Mapping[str, Interval] = dataclasses.field(default_factory=dict)  # of prompts that have one


@dataclasses.dataclass(frozen=True)
class ReportRow:
    """One line of the report."""

    key: str  # its folder below `pictures`
    name: str
    scores: Mapping[str, Scored]  # by column, in the order of the configuration
    per_attribute: Mapping[str, float]
    picture: Callable[
        [int, int], np.ndarray | None
    ]  # number of the trial, of its image → uint8 [H, W, 3]; None: not yet
    references: int | None = None
    about: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    seconds_per_image: float | None = None
    seconds_to_personalise: float | None = None  # per person
    peak_gib: float | None = None
    made: int = 0  # pictures that are there, of `asked`
    asked: int = 0

    @property
    def compose(self) -> str | None:
        return self.about.get("compose")

    @property
    def merge(self) -> str | None:
        return self.about.get("merge")

    @property
    def complete(self) -> bool:
        return self.made == self.asked

    def interval(self, metric: str) -> Interval | None:
        return self.scores[metric].interval


def load_metrics(choices: Sequence[MetricChoice], device: str, tell: bool = True) -> dict[str, Metric | str]:
    """The metrics by column, or why one cannot be had: the others are reported all the same."""
    found: dict[str, Metric | str] = {}
    for choice in choices:
        try:
            found[choice.key] = choice.load(device)
        except (CheckpointError, ConfigError) as error:
            found[choice.key] = str(error)
            if tell:
                print(f"note: {choice.head} is left out: {error}", flush=True)
    return found


def scored(
    trials: Sequence[Trial],
    measured: Mapping[str, Sequence[Measured] | str],
    metrics: Mapping[str, Metric | str],
) -> tuple[dict[str, Scored], dict[str, float]]:
    """The values of a row, and its mean for each attribute.

    Args:
        trials: whom and what was asked for, as far as there are pictures.
        measured: by metric, of each trial; or why there is nothing.
        metrics: loaded, or why one is not.
    """
    scores: dict[str, Scored] = {}
    attributes: dict[str, list[float]] = defaultdict(list)
    for name, metric in metrics.items():
        found = measured.get(name, "no picture yet")
        if isinstance(metric, str) or isinstance(found, str):
            scores[name] = Scored(None, why=metric if isinstance(metric, str) else str(found))
            continue
        scores[name] = summed(metric, trials, found)
        for each in found:
            for attribute, hits in each.per_attribute.items():
                attributes[attribute] += hits
    return scores, {k: float(np.mean(v)) for k, v in attributes.items() if v}


def summed(metric: Metric, trials: Sequence[Trial], measured: Sequence[Measured]) -> Scored:
    """The values of all trials by person, by prompt, and in one with its interval."""
    people: dict[str, list[Measured]] = defaultdict(list)
    prompts: dict[str, list[Measured]] = defaultdict(list)
    for trial, each in zip(trials, measured, strict=True):
        people[trial.person].append(each)
        prompts[trial.template].append(each)
    interval = metric.summary(people)
    why = "" if interval is not None else "it applies to no picture (no face found, or nothing to compare with)"
    return Scored(interval, metric.model, _means(people), _means(prompts), why, _by_category(metric, trials, measured))


def _by_category(metric: Metric, trials: Sequence[Trial], measured: Sequence[Measured]) -> dict[str, Interval]:
    groups: dict[str, dict[str, list[Measured]]] = defaultdict(lambda: defaultdict(list))
    for trial, each in zip(trials, measured, strict=True):
        if trial.category:
            groups[trial.category][trial.person].append(each)
    found = {name: metric.summary(people) for name, people in groups.items()}
    return {name: interval for name, interval in found.items() if interval is not None}


def _means(groups: Mapping[str, Sequence[Measured]]) -> dict[str, float]:
    return {name: float(np.mean(values)) for name, trials in groups.items() if (values := all_values(trials))}
