"""`face=sidecar`: boxes and landmarks from the annotations beside the photo."""

from dataclasses import dataclass
from typing import ClassVar

from pm.photo.faces.detect import Detector, FaceChoice
from pm.photo.sidecar import sidecar_faces
from pm.photo.types import Face, PhotoView


@dataclass(frozen=True)
class Sidecar(FaceChoice):
    """Faces as annotated."""

    holds_model: ClassVar[bool] = False

    def build(self, device: str = "cpu") -> Detector:
        return annotated_faces


def annotated_faces(photo: PhotoView) -> list[Face]:
    """The faces that the annotations name; a `Detector`."""
    return sidecar_faces(photo.annotations)
