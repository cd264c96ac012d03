"""`face=dlib`: dlib's HOG detector of frontal faces, without a GPU or a download."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from annotated_types import Ge

from pm.photo.dlib_models import FIVE_POINTS, dlib_model, import_dlib
from pm.photo.faces.detect import EYE_CORNERS_NOSE, Detector, FaceChoice, at_most
from pm.photo.types import Face, PhotoView


@dataclass(frozen=True)
class Dlib(FaceChoice):
    """The HOG detector and five landmarks."""

    upsample: Annotated[int, Ge(0)]  # how often to double the photo before looking; 1 finds faces from about 40 pixels
    max_side: Annotated[int, Ge(64)]  # larger photos are scaled down for detection

    landmarks: ClassVar[str | None] = EYE_CORNERS_NOSE

    def build(self, device: str = "cpu") -> Detector:
        return DlibDetector(self.upsample, self.max_side)

    def weights(self) -> tuple[Path, ...]:
        return (Path(dlib_model(FIVE_POINTS)),)


class DlibDetector:
    """Boxes of the HOG detector, and five landmarks: two corners of each eye, base of the nose."""

    def __init__(self, upsample: int, max_side: int):
        dlib = import_dlib()
        self.upsample, self.max_side = upsample, max_side
        self._detect = dlib.get_frontal_face_detector()
        self._predict = dlib.shape_predictor(dlib_model(FIVE_POINTS))

    def __call__(self, photo: PhotoView) -> list[Face]:
        dlib = import_dlib()
        small, scale = at_most(photo.pixels, self.max_side)
        boxes, scores, _ = self._detect.run(small, self.upsample, 0.0)
        faces = []
        for box, score in zip(boxes, scores, strict=True):
            corners = [v / scale for v in (box.left(), box.top(), box.right() + 1, box.bottom() + 1)]
            points = self._predict(photo.pixels, dlib.rectangle(*(round(v) for v in corners))).parts()
            faces.append(Face(tuple(corners), tuple(float(v) for p in points for v in (p.x, p.y)), score))
        return faces
