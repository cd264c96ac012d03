"""Does it follow the words: the share of prompted attributes that the probe reads from a picture as they were asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pm.evaluate.metrics.base import Measured, Metric, MetricChoice, hits_of
from pm.evaluate.models.probe import ProbeMetric, Reading
from pm.methods.trial import Trial


@dataclass(frozen=True)
class Prompt(MetricChoice):
    """One value per image."""

    probe: str  # file

    def load(self, device: str) -> Metric:
        return _Prompt(self.probe, device)


class _Prompt(ProbeMetric):
    def judge(self, trial: Trial, readings: Sequence[Reading]) -> Measured:
        asked = trial.facts.prompted.items()
        return hits_of([{k: float(reading[k] == v) for k, v in asked} for reading in readings])
