"""How much people would like a picture, by a predictor on CLIP (LAION 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from pm.evaluate.metrics.base import Measured, Metric, MetricChoice, Model, Pictures
from pm.evaluate.models.aesthetic import load_aesthetic
from pm.evaluate.models.features import Features


@dataclass(frozen=True)
class Aesthetic(MetricChoice):
    """One value per image, about 1 to 10."""

    path: str  # folder or Hub id of a CLIP vision tower with a linear head

    title: ClassVar[str] = "aesthetic"
    percent: ClassVar[bool] = False

    def load(self, device: str) -> Metric:
        return _Aesthetic(*load_aesthetic(self.path, device))


class _Aesthetic(Metric):
    def __init__(self, scores: Features, model: Model):
        self._scores, self.model = scores, model

    def measure(self, batch: Sequence[Pictures]) -> list[Measured]:
        rows = self._scores.of_each([pictures.images for pictures in batch])
        return [Measured([float(v) for v in scores.ravel()]) for scores in rows]
