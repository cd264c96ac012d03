"""Does it vary: the share of pairs of pictures of one prompt that differ in the attributes the prompt left open."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pm.evaluate.metrics.base import Measured, Metric, MetricChoice
from pm.evaluate.models.probe import ProbeMetric, Reading
from pm.methods.trial import Trial
from pm.toon.attributes import PHOTO_ATTRIBUTES


@dataclass(frozen=True)
class Diversity(MetricChoice):
    """One value per trial; none without two images, or where the prompt left nothing open."""

    probe: str  # file

    def load(self, device: str) -> Metric:
        return _Diversity(self.probe, device)


class _Diversity(ProbeMetric):
    def judge(self, trial: Trial, readings: Sequence[Reading]) -> Measured:
        facts = trial.facts
        free = [k for k in PHOTO_ATTRIBUTES if k in facts.omitted and k not in facts.prompted]
        pairs = list(itertools.combinations(readings, 2))
        if not pairs or not free:
            return Measured([])
        return Measured([float(np.mean([[a[k] != b[k] for k in free] for a, b in pairs]))])
