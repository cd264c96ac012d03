"""Copy-paste: is a picture nearer to the reference photos than the same person's other photos are (Xu et al. 2025)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pm.evaluate.faces import FaceEmbedder, face_embedder
from pm.evaluate.following import angles, copied
from pm.evaluate.metrics.base import Measured, Metric, MetricChoice, Pictures
from pm.methods.trial import Photo
from pm.photo.embedders.embed import EmbedderChoice
from pm.photo.faces.detect import FaceChoice


@dataclass(frozen=True)
class CopyPaste(MetricChoice):
    """One value per image with a face, -1..1: `pm.evaluate.following.copied` on angles between embeddings of faces.
    None where the person has no held-out photo with a face."""

    face: FaceChoice
    embedder: EmbedderChoice

    title: ClassVar[str] = "copy-paste"
    higher_is_better: ClassVar[bool] = False

    def __post_init__(self) -> None:
        self.embedder.check(self.face)

    def load(self, device: str) -> Metric:
        return _CopyPaste(face_embedder(self.face, self.embedder, device))


class _CopyPaste(Metric):
    def __init__(self, embedder: FaceEmbedder):
        self._embedder, self.model = embedder, embedder.model

    def measure(self, batch: Sequence[Pictures]) -> list[Measured]:
        return [self._one(pictures) for pictures in batch]

    def _one(self, pictures: Pictures) -> Measured:
        references, others = (self._rows(photos) for photos in (pictures.trial.references, pictures.trial.held_out))
        rows = np.array([row for row in self._embedder(pictures.images) if row is not None])
        return copies(rows, references, others)

    def _rows(self, photos: Sequence[Photo]) -> np.ndarray:
        return np.array([row for row in self._embedder([photo.image for photo in photos]) if row is not None])


def copies(rows: np.ndarray, references: np.ndarray, others: np.ndarray) -> Measured:
    """`pm.evaluate.following.copied` of unit vectors: of pictures [n, E], references [R, E], other photos [O, E]."""
    if not len(rows) or not len(references) or not len(others):
        return Measured([])
    between = angles(references, others)
    pairs = zip(angles(rows, references), angles(rows, others), strict=True)
    values = [copied(to_references, to_others, between) for to_references, to_others in pairs]
    return Measured([v for v in values if v is not None])
