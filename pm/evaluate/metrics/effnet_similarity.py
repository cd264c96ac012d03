"""EfficientNet-lite0 similarity: how much a picture is like the person's photos. A stand-in for DINO."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pm.evaluate.metrics.base import Metric, MetricChoice
from pm.evaluate.metrics.clip_i import PhotoSimilarity
from pm.evaluate.models.efficientnet import load_efficientnet
from pm.evaluate.photos import Against


@dataclass(frozen=True)
class EffnetSimilarity(MetricChoice):
    """One value per image: the mean cosine of its ImageNet features to the photos'."""

    against: Against  # which photos of the person

    title: ClassVar[str] = "EffNet similarity"

    def load(self, device: str) -> Metric:
        features, model = load_efficientnet(device)
        return PhotoSimilarity(features, self.against, model)
