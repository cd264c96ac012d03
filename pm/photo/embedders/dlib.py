"""`embedder=dlib`: dlib's face recognition network."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pm.photo.dlib_models import FIVE_POINTS, RESNET, dlib_model, import_dlib
from pm.photo.embedders.embed import Embedder, EmbedderChoice
from pm.photo.types import Face


@dataclass(frozen=True)
class Dlib(EmbedderChoice):
    """dlib's ResNet, on any detector's boxes."""

    def build(self, device: str = "cpu") -> Embedder | None:
        return DlibEmbedder()


class DlibEmbedder:
    """128 numbers; distance below about 0.6 means the same person."""

    def __init__(self) -> None:
        dlib = import_dlib()
        self._predict = dlib.shape_predictor(dlib_model(FIVE_POINTS))
        self._embed = dlib.face_recognition_model_v1(dlib_model(RESNET))

    def __call__(self, image: np.ndarray, faces: Sequence[Face]) -> np.ndarray:
        dlib = import_dlib()
        boxes = [dlib.rectangle(*(round(v) for v in face.box)) for face in faces]
        return np.array([self._embed.compute_face_descriptor(image, self._predict(image, box)) for box in boxes])
