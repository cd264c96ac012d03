"""DINO: how much a picture is like the person's photos, by a self-supervised ViT (paper section 4.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pm.evaluate.metrics.base import Metric, MetricChoice
from pm.evaluate.metrics.clip_i import PhotoSimilarity
from pm.evaluate.models.vit import load_vit
from pm.evaluate.photos import Against


@dataclass(frozen=True)
class Dino(MetricChoice):
    """One value per image: its mean cosine to the photos."""

    path: str  # folder or Hub id of a ViT
    against: Against  # which photos of the person

    title: ClassVar[str] = "DINO"

    def load(self, device: str) -> Metric:
        features, model = load_vit(self.path, device)
        return PhotoSimilarity(features, self.against, model)
