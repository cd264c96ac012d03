"""`face=yunet`: YuNet (Wu et al. 2023), a small network that ships with the project, run by OpenCV."""

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Ge, Gt, Lt

from pm.photo.faces.detect import EYES_NOSE_MOUTH, Detector, FaceChoice
from pm.photo.opencv import import_cv2, shipped_weights, weights_path
from pm.photo.pixels import bgr
from pm.photo.types import Face, PhotoView

_FILE = "yunet_n.onnx"
_OVERLAP = 0.3  # boxes that share more (intersection over union) are one face, as its authors have it


@dataclass(frozen=True)
class YuNet(FaceChoice):
    """Faces from all sides, from about 10 pixels of the scaled photo on."""

    max_side: Annotated[int, Ge(64)]  # larger photos are scaled down for detection
    threshold: Annotated[float, Gt(0), Lt(1)]  # least score of a face

    landmarks: ClassVar[str | None] = EYES_NOSE_MOUTH

    def build(self, device: str = "cpu") -> Detector:
        return YuNetDetector(self.max_side, self.threshold)

    def weights(self) -> tuple[Path, ...]:
        return (weights_path(_FILE),)


class YuNetDetector:
    """Boxes, scores and five landmarks: eyes, tip of the nose, corners of the mouth, each from left to right."""

    def __init__(self, max_side: int, threshold: float):
        cv2 = import_cv2("face=yunet")
        self.max_side = max_side
        before = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # it warns about GPUs
        try:
            weights, none = shipped_weights(_FILE), np.empty(0, np.uint8)
            self._model = cv2.FaceDetectorYN.create("onnx", weights, none, (320, 320), threshold, _OVERLAP)
        finally:
            cv2.utils.logging.setLogLevel(before)
        self._lock = threading.Lock()  # the model keeps the size of its input

    def __call__(self, photo: PhotoView) -> list[Face]:
        import cv2

        scale = min(1.0, self.max_side / max(photo.width, photo.height))
        size = tuple(max(1, round(v * scale)) for v in (photo.width, photo.height))
        # In whole pixels the two sides are scaled a little differently.
        factors = np.array([photo.width / size[0], photo.height / size[1]])
        small = photo.pixels if scale == 1 else cv2.resize(photo.pixels, size, interpolation=cv2.INTER_AREA)
        with self._lock:
            self._model.setInputSize(size)
            _, rows = self._model.detect(bgr(small))
        return [] if rows is None else [_face(row, factors) for row in rows]


def _face(row: np.ndarray, factors: np.ndarray) -> Face:
    """A row of YuNet's: x, y, width, height, five points, score."""
    points = row[:14].reshape(7, 2) * factors
    box = np.concatenate([points[0], points[0] + points[1]])
    return Face(tuple(map(float, box)), tuple(map(float, points[2:].flatten())), float(row[14]))
