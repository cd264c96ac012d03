"""CLIP-I: how much a picture is like the person's photos, by CLIP (paper section 4.1; Gal et al. 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pm.evaluate.metrics.base import Measured, Metric, MetricChoice, Model, Pictures
from pm.evaluate.models.clip import load_clip
from pm.evaluate.models.features import Features, unit
from pm.evaluate.photos import Against, photos_of


@dataclass(frozen=True)
class ClipI(MetricChoice):
    """One value per image: its mean cosine to the photos."""

    path: str  # folder or Hub id of a CLIP
    against: Against  # which photos of the person

    title: ClassVar[str] = "CLIP-I"

    def load(self, device: str) -> Metric:
        clip = load_clip(self.path, device)
        return PhotoSimilarity(clip.images, self.against, clip.model)


class PhotoSimilarity(Metric):
    """The mean cosine of features, of a picture's and each photo's."""

    def __init__(self, features: Features, against: Against, model: Model):
        self._features, self._against, self.model = features, against, model

    def measure(self, batch: Sequence[Pictures]) -> list[Measured]:
        images = self._features.of_each([pictures.images for pictures in batch])
        photos = self._features.of_each([photos_of(pictures.trial, self._against) for pictures in batch])
        return [_compared(*rows) for rows in zip(images, photos, strict=True)]


def _compared(images: np.ndarray, photos: np.ndarray) -> Measured:
    if not len(images) or not len(photos):
        return Measured([])
    return Measured([float(v) for v in (unit(images) @ unit(photos).T).mean(1)])
