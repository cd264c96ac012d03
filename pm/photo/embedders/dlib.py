"""`embedder=dlib`: dlib's face recognition network."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pm.photo.dlib_models import FIVE_POINTS, RESNET, dlib_model, import_dlib
from pm.photo.embedders.embed import Distances, Embedder, EmbedderChoice
from pm.photo.types import Face


@dataclass(frozen=True)
class Dlib(Distances, EmbedderChoice):
    """dlib's ResNet, aligned by dlib's own five points inside any detector's box."""

    def build(self, device: str = "cpu") -> Embedder | None:
        return DlibEmbedder()

    def weights(self) -> tuple[Path, ...]:
        return Path(dlib_model(FIVE_POINTS)), Path(dlib_model(RESNET))


class DlibEmbedder:
    """128 numbers; distance below about 0.6 means the same person."""

    def __init__(self) -> None:
        dlib = import_dlib()
        self._predict = dlib.shape_predictor(dlib_model(FIVE_POINTS))
        self._embed = dlib.face_recognition_model_v1(dlib_model(RESNET))

    def __call__(self, image: np.ndarray, faces: Sequence[Face]) -> np.ndarray:
        dlib = import_dlib()
        boxes = [dlib.rectangle(*(round(v) for v in _brows_to_chin(face.box))) for face in faces]
        return np.array([self._embed.compute_face_descriptor(image, self._predict(image, box)) for box in boxes])


def _brows_to_chin(box: Sequence[float]) -> tuple[float, ...]:
    """The square that dlib's own detectors find, which its landmarks were trained on; square boxes stay.

    Boxes that are higher than wide, such as YuNet's, also hold the forehead. Without this, the five points of a
    photo of low contrast miss the eyes, and two photos of one person lie as far apart as 0.63 instead of 0.53.
    """
    x0, y0, x1, y1 = box
    if y1 - y0 <= 1.1 * (x1 - x0):
        return tuple(box)
    middle, half = (x0 + x1) / 2, 0.55 * (x1 - x0)
    return middle - half, y1 - 2 * half, middle + half, y1
