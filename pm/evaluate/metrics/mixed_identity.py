"""Whom of two does a portrait show: the share of traits in which they differ that are one's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pm.evaluate.metrics.base import Measured, Metric, MetricChoice, hits_of
from pm.evaluate.models.probe import ProbeMetric, Reading
from pm.methods.trial import Trial
from pm.toon.attributes import IDENTITY_ATTRIBUTES


@dataclass(frozen=True)
class MixedIdentity(MetricChoice):
    """One value per image. What both have in common tells nobody apart and does not count."""

    probe: str  # file
    whose: Literal["first", "second"]

    def load(self, device: str) -> Metric:
        return _MixedIdentity(self.probe, device, self.whose)


class _MixedIdentity(ProbeMetric):
    def __init__(self, path: str, device: str, whose: str) -> None:
        super().__init__(path, device)
        self._whose = whose

    def judge(self, trial: Trial, readings: Sequence[Reading]) -> Measured:
        first, second = trial.facts.identity, trial.facts.other
        if second is None:
            return Measured([])
        names = [k for k in IDENTITY_ATTRIBUTES if getattr(first, k) != getattr(second, k)]
        if not names:
            return Measured([])
        person = first if self._whose == "first" else second
        found = hits_of([{k: float(reading[k] == getattr(person, k)) for k in names} for reading in readings])
        return Measured(
            found.values, per_attribute={f"{k} of the {self._whose}": v for k, v in found.per_attribute.items()}
        )
