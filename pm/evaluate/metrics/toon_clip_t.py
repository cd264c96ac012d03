"""Toon CLIP-T: as CLIP-T, by the toon world's own CLIP. A stand-in for drawings that needs no download."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pm.evaluate.metrics.base import Metric, MetricChoice
from pm.evaluate.metrics.clip_t import PromptSimilarity
from pm.evaluate.models.toon_clip import load_toon_clip


@dataclass(frozen=True)
class ToonClipT(MetricChoice):
    """One value per image: the cosine of picture and prompt."""

    path: str  # folder of a toon base

    title: ClassVar[str] = "toon CLIP-T"

    def load(self, device: str) -> Metric:
        return PromptSimilarity(load_toon_clip(self.path, device))
