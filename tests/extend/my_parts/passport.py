"""`face=passport`: photos for documents have the face at a prescribed place, so nothing has to be detected."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Gt, Le

from pm.photo.faces.detect import Detector, FaceChoice
from pm.photo.types import Face, PhotoView


@dataclass(frozen=True)
class Passport(FaceChoice):
    height: Annotated[float, Gt(0), Le(1)]  # of the face, as a share of the photo's height
    top: Annotated[float, Gt(0), Le(1)]  # of the photo above the face, likewise

    def build(self, device: str = "cpu") -> Detector:
        return PassportDetector(self.height, self.top)


class PassportDetector:
    def __init__(self, height: float, top: float):
        self.height, self.top = height, top

    def __call__(self, photo: PhotoView) -> list[Face]:
        half, top = self.height * photo.height * 0.35, self.top * photo.height
        middle = photo.width / 2
        box = (middle - half, top, middle + half, top + self.height * photo.height)
        return [Face(box, landmarks=(), score=1.0)]
