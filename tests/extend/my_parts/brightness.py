"""`metric=brightness`: how bright pictures are, from black (0) to white (1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pm.evaluate.metrics.base import Measured, Metric, MetricChoice, Pictures


@dataclass(frozen=True)
class Brightness(MetricChoice):
    white: float  # the pixel value that counts as 1

    def load(self, device: str) -> Metric:
        return _Brightness(self.white)


class _Brightness(Metric):
    def __init__(self, white: float):
        self.white = white

    def measure(self, batch: Sequence[Pictures]) -> list[Measured]:
        return [Measured([float(np.mean(image)) / self.white for image in each.images]) for each in batch]
