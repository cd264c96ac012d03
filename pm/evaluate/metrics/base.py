"""The kind of parts that turn pictures into values."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from pm.choice import Choice
from pm.evaluate.statistics import Interval, bootstrap
from pm.methods.trial import Trial


@dataclass(frozen=True)
class Pictures:
    """The images that one method made for one trial."""

    trial: Trial
    images: Sequence[np.ndarray]  # uint8 [H, W, 3] each


@dataclass(frozen=True)
class Model:
    """Which model gave the values: a column of a table has values of one model only."""

    name: str  # Hub id, or the stand-in's name and version
    fingerprint: str  # of its weights: the first 16 hex digits of their SHA-256


@dataclass(frozen=True)
class Measured:
    """What a metric says of one trial."""

    values: Sequence[float]  # one per image, or one for the trial; none where it does not apply (no face, no pair)
    features: np.ndarray | None = None  # [n, F] float32, for metrics over sets of images
    per_attribute: Mapping[str, Sequence[float]] = field(default_factory=dict)  # further values, by name


class Metric(ABC):
    """A metric with its model loaded."""

    model: Model | None = None  # None: it needs none

    @abstractmethod
    def measure(self, batch: Sequence[Pictures]) -> list[Measured]:
        """The values of each trial; a batch of n gives what n batches of 1 give."""

    def summary(self, people: Mapping[str, Sequence[Measured]]) -> Interval | None:
        """One value of all people with its interval: the mean of each person's values, then over people.

        Args:
            people: what was measured, by person.

        Returns:
            None where nothing was measured.
        """
        means = [float(np.mean(values)) for trials in people.values() if (values := all_values(trials))]
        return bootstrap(means) if means else None


@dataclass(frozen=True)
class MetricChoice(Choice, group="metric", package="pm.evaluate.metrics"):
    """A metric and its settings (`conf/metric/*.yaml`)."""

    name: str
    # Of its column, where one metric has several with different settings; "": the metric's own name.
    column: str = field(default="", kw_only=True)

    title: ClassVar[str] = ""  # the head of its column; "": the name
    higher_is_better: ClassVar[bool] = True
    percent: ClassVar[bool] = True  # values in [0, 1], shown times 100

    @property
    def key(self) -> str:
        """Of its column in reports, and of its files of values."""
        return self.column or self.name

    @property
    def head(self) -> str:
        return self.column or self.title or self.name

    def load(self, device: str) -> Metric:
        """The working object.

        Raises:
            CheckpointError: its model cannot be had. The other metrics are reported all the same.
        """
        raise NotImplementedError


def all_values(trials: Sequence[Measured]) -> list[float]:
    """The values of a person's trials in one list."""
    return [value for measured in trials for value in measured.values]


def hits_of(hits: Sequence[Mapping[str, float]]) -> Measured:
    """Hits of each image by attribute; an image's value is the share that it hit."""
    names = dict.fromkeys(name for image in hits for name in image)
    return Measured(
        [float(np.mean(list(image.values()))) for image in hits],
        per_attribute={name: [image[name] for image in hits if name in image] for name in names},
    )
