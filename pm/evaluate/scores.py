"""Pictures measured: for each metric a value of every person and prompt, and one of all with its interval."""

import dataclasses
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pm.errors import CheckpointError
from pm.evaluate.metrics.base import Measured, Metric, MetricChoice, Model, Pictures, all_values
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


@dataclasses.dataclass(frozen=True)
class ReportRow:
    """One line of the report. `images`: a list for each trial, of uint8 [S, S, 3]."""

    name: str
    scores: dict[str, Scored]  # by metric, in the order of the configuration
    per_attribute: dict[str, float]
    seconds_per_image: float | None
    images: Sequence[Sequence[np.ndarray]]
    references: int | None = None
    about: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def compose(self) -> str | None:
        return self.about.get("compose")

    @property
    def merge(self) -> str | None:
        return self.about.get("merge")

    def interval(self, metric: str) -> Interval | None:
        return self.scores[metric].interval


def load_metrics(choices: Sequence[MetricChoice], device: str) -> dict[str, Metric | str]:
    """The metrics by name, or why one cannot be had: the others are reported all the same."""
    found: dict[str, Metric | str] = {}
    for choice in choices:
        try:
            found[choice.name] = choice.load(device)
        except CheckpointError as error:
            found[choice.name] = str(error)
            print(f"note: {choice.head} is left out: {error}", flush=True)
    return found


def score(
    name: str,
    trials: Sequence[Trial],
    images: Sequence[Sequence[np.ndarray]],
    metrics: Mapping[str, Metric | str],
    seconds: float | None = None,
    **about: Any,
) -> ReportRow:
    """Measure every image.

    Args:
        name: of the row.
        trials: whom and what was asked for.
        images: of each trial.
        metrics: loaded, or why one is not.
        seconds: per image.
        about: the further fields of the row.
    """
    batch = [Pictures(trial, shown) for trial, shown in zip(trials, images, strict=True)]
    scores: dict[str, Scored] = {}
    attributes: dict[str, list[float]] = defaultdict(list)
    for key, metric in metrics.items():
        if isinstance(metric, str):
            scores[key] = Scored(None, why=metric)
            continue
        measured = metric.measure(batch)
        scores[key] = summed(metric, trials, measured)
        for each in measured:
            for attribute, hits in each.per_attribute.items():
                attributes[attribute] += hits
    per_attribute = {k: float(np.mean(v)) for k, v in attributes.items()}
    return ReportRow(name, scores, per_attribute, seconds, images, **about)


def summed(metric: Metric, trials: Sequence[Trial], measured: Sequence[Measured]) -> Scored:
    """The values of all trials by person, by prompt, and in one with its interval."""
    people: dict[str, list[Measured]] = defaultdict(list)
    prompts: dict[str, list[Measured]] = defaultdict(list)
    for trial, each in zip(trials, measured, strict=True):
        people[trial.person].append(each)
        prompts[trial.template].append(each)
    return Scored(metric.summary(people), metric.model, _means(people), _means(prompts))


def _means(groups: Mapping[str, Sequence[Measured]]) -> dict[str, float]:
    return {name: float(np.mean(values)) for name, trials in groups.items() if (values := all_values(trials))}
