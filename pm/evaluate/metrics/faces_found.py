"""In how many pictures is there a face at all: what the other metrics of faces leave out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from pm.evaluate.faces import FaceFinder, face_finder
from pm.evaluate.metrics.base import Measured, Metric, MetricChoice, Pictures
from pm.photo.faces.detect import FaceChoice


@dataclass(frozen=True)
class FacesFound(MetricChoice):
    """One value per image: 1 with a face of at least `face.min_size`, else 0."""

    face: FaceChoice

    title: ClassVar[str] = "faces found"

    def load(self, device: str) -> Metric:
        return _FacesFound(face_finder(self.face, device))


class _FacesFound(Metric):
    def __init__(self, finder: FaceFinder):
        self._finder, self.model = finder, finder.model

    def measure(self, batch: Sequence[Pictures]) -> list[Measured]:
        return [Measured([float(face is not None) for face in self._finder(p.images)]) for p in batch]
