"""Toon CLIP-I: as CLIP-I, by the toon world's own CLIP. A stand-in for drawings that needs no download."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pm.evaluate.metrics.base import Metric, MetricChoice
from pm.evaluate.metrics.clip_i import PhotoSimilarity
from pm.evaluate.models.toon_clip import load_toon_clip
from pm.evaluate.photos import Against


@dataclass(frozen=True)
class ToonClipI(MetricChoice):
    """One value per image: its mean cosine to the photos."""

    path: str  # folder of a toon base
    against: Against  # which photos of the person

    title: ClassVar[str] = "toon CLIP-I"

    def load(self, device: str) -> Metric:
        clip = load_toon_clip(self.path, device)
        return PhotoSimilarity(clip.images, self.against, clip.model)
