"""The kind of parts that turn the pictures of a trial into scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from pm.choice import Choice

if TYPE_CHECKING:
    from pm.evaluate.trials import Trial

Reading = Mapping[str, str]  # attribute → the value the probe read


@dataclass(frozen=True)
class Measured:
    """What a metric says of one trial. Scores lie in [0, 1], higher is better."""

    values: Sequence[float]  # one per image, or one for the trial; none where it does not apply
    per_attribute: Mapping[str, Sequence[float]] = field(default_factory=dict)  # hits (1) and misses (0) of each image


@dataclass(frozen=True)
class MetricChoice(Choice, group="metric", package="pm.evaluate.metrics"):
    """A metric; its name is the head of its column. Values are averaged for each person first."""

    name: str

    def measure(self, trial: Trial, images: Sequence[np.ndarray], readings: Sequence[Reading]) -> Measured:
        """Score the images of one trial.

        Args:
            trial: who was asked for, and in which scene.
            images: uint8 [S, S, 3] each.
            readings: what the probe read from each image.
        """
        raise NotImplementedError


def hits_of(hits: Sequence[Mapping[str, float]]) -> Measured:
    """Hits of each image by attribute; an image's value is the share that it hit."""
    names = dict.fromkeys(name for image in hits for name in image)
    return Measured(
        [float(np.mean(list(image.values()))) for image in hits],
        {name: [image[name] for image in hits if name in image] for name in names},
    )
