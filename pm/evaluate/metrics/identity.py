"""Is it this person: the share of identity attributes that the probe reads from a picture as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pm.evaluate.metrics.base import Measured, Metric, MetricChoice, hits_of
from pm.evaluate.models.probe import ProbeMetric, Reading
from pm.methods.trial import Trial
from pm.toon.attributes import IDENTITY_ATTRIBUTES


@dataclass(frozen=True)
class Identity(MetricChoice):
    """One value per image."""

    probe: str  # file

    def load(self, device: str) -> Metric:
        return _Identity(self.probe, device)


class _Identity(ProbeMetric):
    def judge(self, trial: Trial, readings: Sequence[Reading]) -> Measured:
        person = trial.facts.identity
        return hits_of([{k: float(r[k] == getattr(person, k)) for k in IDENTITY_ATTRIBUTES} for r in readings])
