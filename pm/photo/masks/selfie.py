"""`mask=selfie`: MediaPipe's selfie segmentation, a small network that ships with the project, run by OpenCV."""

import threading
from dataclasses import dataclass

import numpy as np

from pm.photo.masks.select import MaskChoice, Masker
from pm.photo.opencv import import_cv2, shipped_weights
from pm.photo.types import Crop

_SIDE = 256  # pixels of its input and output
_GAP = 4  # pixels; gaps up to twice this wide do not part a person


@dataclass(frozen=True)
class Selfie(MaskChoice):
    """A soft mask of the people in the crop; each connected region is a candidate."""

    def build(self, *, device: str | None = None, dtype: str = "float32", batch_size: int | None = None) -> Masker:
        return SelfieMasker()


class SelfieMasker:
    """The network sees the crop at 256 x 256 pixels and says how likely each is part of a person.

    It does not tell people apart; those who do not touch are told apart here.
    """

    def __init__(self) -> None:
        cv2 = import_cv2("mask=selfie")
        self._net = cv2.dnn.readNetFromTFLite(shipped_weights("selfie_segmentation.tflite"))
        self._lock = threading.Lock()  # the network keeps its input

    def __call__(self, crop: Crop) -> list[np.ndarray]:
        import cv2

        side = crop.pixels.shape[0]
        method = cv2.INTER_AREA if side > _SIDE else cv2.INTER_LINEAR
        small = cv2.resize(crop.pixels, (_SIDE, _SIDE), interpolation=method)
        with self._lock:
            self._net.setInput(cv2.dnn.blobFromImage(small, 1 / 255))  # RGB in 0..1
            person = self._net.forward().reshape(_SIDE, _SIDE)
        soft = (np.clip(person, 0, 1) * 255).round().astype(np.uint8)
        return [cv2.resize(mask, (side, side), interpolation=cv2.INTER_LINEAR) for mask in _people(soft)]


def _people(soft: np.ndarray) -> list[np.ndarray]:
    """Regions of a soft mask that do not touch, each with its soft border, uint8 [256, 256]."""
    import cv2

    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * _GAP + 1, 2 * _GAP + 1))
    count, regions = cv2.connectedComponents(cv2.dilate((soft >= 128).astype(np.uint8), disc))
    return [np.where(regions == number, soft, 0).astype(np.uint8) for number in range(1, count)]
