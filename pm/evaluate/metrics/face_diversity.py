"""Face Div.: how much the faces of one prompt's pictures differ, the mean LPIPS of all pairs (paper section 4.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
from annotated_types import Ge

from pm.evaluate.faces import FaceFinder, face_finder
from pm.evaluate.metrics.base import Measured, Metric, MetricChoice, Model, Pictures
from pm.evaluate.models.features import as_rgb
from pm.evaluate.models.files import joined
from pm.evaluate.models.perceptual import Distances, load_lpips
from pm.photo.crop import square_box
from pm.photo.faces.detect import FaceChoice


@dataclass(frozen=True)
class FaceDiversity(MetricChoice):
    """One value per trial; none where fewer than two of its pictures show a face."""

    face: FaceChoice
    net: Literal["alex", "vgg", "squeeze"]
    path: str  # its weights, trained on ImageNet: file, folder or Hub id
    side: Annotated[int, Ge(64)]  # px, what faces are scaled to

    title: ClassVar[str] = "Face Div."

    def load(self, device: str) -> Metric:
        distances, model = load_lpips(self.net, self.path, self.side, device)
        return FacePairs(face_finder(self.face, device), distances, model)


class FacePairs(Metric):
    """By any detector and perceptual distance."""

    def __init__(self, finder: FaceFinder, distances: Distances, model: Model):
        self._finder, self._distances, self.model = finder, distances, joined(finder.model, model)

    def measure(self, batch: Sequence[Pictures]) -> list[Measured]:
        return [self._one(pictures) for pictures in batch]

    def _one(self, pictures: Pictures) -> Measured:
        faces = self._finder(pictures.images)
        crops = [_cut(i, f.box) for i, f in zip(pictures.images, faces, strict=True) if f is not None]
        if len(crops) < 2:
            return Measured([])
        pairs = self._distances(crops, crops)[np.triu_indices(len(crops), 1)]
        return Measured([float(pairs.mean())])


def _cut(image: np.ndarray, box: tuple[float, ...]) -> np.ndarray:
    """The square in the middle of a face with the box's area."""
    left, top, right, bottom = square_box(box, image.shape[1], image.shape[0], 1.0)
    return as_rgb(image)[top:bottom, left:right]
