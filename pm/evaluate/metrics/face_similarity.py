"""Face Sim.: is it the same face, by an embedding of faces (paper section 4.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pm.evaluate.faces import FaceEmbedder, face_embedder
from pm.evaluate.metrics.base import Measured, Metric, MetricChoice, Pictures
from pm.evaluate.photos import Against, photos_of
from pm.photo.embedders.embed import EmbedderChoice
from pm.photo.faces.detect import FaceChoice


@dataclass(frozen=True)
class FaceSimilarity(MetricChoice):
    """One value per image with a face: the mean cosine of its largest face to those of the photos."""

    face: FaceChoice
    embedder: EmbedderChoice
    against: Against  # which photos of the person

    title: ClassVar[str] = "Face Sim."

    def __post_init__(self) -> None:
        self.embedder.check(self.face)

    def load(self, device: str) -> Metric:
        return _FaceSimilarity(face_embedder(self.face, self.embedder, device), self.against)


class _FaceSimilarity(Metric):
    def __init__(self, embedder: FaceEmbedder, against: Against):
        self._embedder, self._against, self.model = embedder, against, embedder.model

    def measure(self, batch: Sequence[Pictures]) -> list[Measured]:
        return [self._one(pictures) for pictures in batch]

    def _one(self, pictures: Pictures) -> Measured:
        photos = [row for row in self._embedder(photos_of(pictures.trial, self._against)) if row is not None]
        rows = [row for row in self._embedder(pictures.images) if row is not None]
        if not photos or not rows:
            return Measured([])
        return Measured([float(v) for v in (np.stack(rows) @ np.stack(photos).T).mean(1)])
