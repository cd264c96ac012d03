"""Fréchet-EffNet: how far the pictures are from real photos by EfficientNet-lite0's features. A stand-in for FID."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pm.evaluate.metrics.base import Metric, MetricChoice
from pm.evaluate.metrics.fid import SetDistance
from pm.evaluate.models.efficientnet import load_efficientnet


@dataclass(frozen=True)
class FrechetEffnet(MetricChoice):
    """One value of all pictures, as FID. Not comparable with FID: other features have other scales."""

    title: ClassVar[str] = "Fréchet-EffNet"
    higher_is_better: ClassVar[bool] = False
    percent: ClassVar[bool] = False

    def load(self, device: str) -> Metric:
        return SetDistance(*load_efficientnet(device))
