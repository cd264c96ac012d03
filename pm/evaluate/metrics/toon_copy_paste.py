"""Toon copy-paste: as copy-paste, of whole drawings by the toon world's own CLIP.

A drawn face is the same in all photos of a person; what could be copied from a reference is all the rest: clothes,
mouth, glasses, background.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from pm.evaluate.metrics.base import Measured, Metric, MetricChoice, Model, Pictures
from pm.evaluate.metrics.copy_paste import copies
from pm.evaluate.models.features import Features
from pm.evaluate.models.toon_clip import load_toon_clip
from pm.evaluate.photos import photos_of


@dataclass(frozen=True)
class ToonCopyPaste(MetricChoice):
    """One value per image, -1..1: 1 as a copy of a reference, -1 as of another photo. None without held-out ones."""

    path: str  # folder of a toon base

    title: ClassVar[str] = "toon copy-paste"
    higher_is_better: ClassVar[bool] = False

    def load(self, device: str) -> Metric:
        clip = load_toon_clip(self.path, device)
        return _ToonCopyPaste(clip.images, clip.model)


class _ToonCopyPaste(Metric):
    def __init__(self, features: Features, model: Model):
        self._features, self.model = features, model

    def measure(self, batch: Sequence[Pictures]) -> list[Measured]:
        groups = [
            [list(p.images) for p in batch],
            [photos_of(p.trial, "references") for p in batch],
            [photos_of(p.trial, "held_out") for p in batch],
        ]
        return [copies(*rows) for rows in zip(*map(self._features.of_each, groups), strict=True)]
