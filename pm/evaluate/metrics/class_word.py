"""Is the person shown as the class word that photos have, or as another: the share of portraits the probe reads so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from pm.evaluate.metrics.base import Measured, Metric, MetricChoice
from pm.evaluate.models.probe import ProbeMetric, Reading
from pm.methods.trial import Trial


@dataclass(frozen=True)
class ClassWord(MetricChoice):
    """One value per image: 1 where the probe reads the person's own class word. A method that asks for another one
    (`method=reworded`) succeeds where this is low."""

    probe: str  # file

    title: ClassVar[str] = "own class word"

    def load(self, device: str) -> Metric:
        return _ClassWord(self.probe, device)


class _ClassWord(ProbeMetric):
    def judge(self, trial: Trial, readings: Sequence[Reading]) -> Measured:
        return Measured([float(reading["class_word"] == trial.facts.identity.class_word) for reading in readings])
