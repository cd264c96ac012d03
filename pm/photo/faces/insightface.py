"""`face=insightface`: SCRFD finds faces, as the paper's pipeline does (section 3.3).

InsightFace's code is free software; its pretrained weights are for non-commercial research only. So it is an extra that
a user installs, and never a default.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from annotated_types import Ge, Lt

from pm.errors import ConfigError
from pm.photo.faces.detect import EYES_NOSE_MOUTH, Detector, FaceChoice
from pm.photo.insightface_models import load_models, pack_files
from pm.photo.pixels import bgr
from pm.photo.types import Face, PhotoView


@dataclass(frozen=True)
class InsightFace(FaceChoice):
    """SCRFD."""

    max_side: Annotated[int, Ge(64)]  # pixels, side of the square that photos are scaled into; a multiple of 32
    pack: str  # name of a model pack, or its folder
    threshold: Annotated[float, Ge(0), Lt(1)]  # least score of a face

    uses_gpu: ClassVar[bool] = True
    landmarks: ClassVar[str | None] = EYES_NOSE_MOUTH

    def __post_init__(self) -> None:
        if self.max_side % 32:
            raise ConfigError(f"face.max_side={self.max_side} must be a multiple of 32 (usual: 640)")

    def build(self, device: str = "cpu") -> Detector:
        return InsightFaceDetector(self.pack, self.max_side, self.threshold, device)

    def weights(self) -> tuple[Path, ...]:
        return pack_files(self.pack)


class InsightFaceDetector:
    """Boxes, scores and five landmarks (eyes, nose, corners of the mouth)."""

    def __init__(self, pack: str, side: int, threshold: float, device: str):
        models = load_models("face.pack", pack, modules=(), side=side, threshold=threshold, device=device)
        self._model = models.det_model

    def __call__(self, photo: PhotoView) -> list[Face]:
        boxes, points = self._model.detect(bgr(photo.pixels), max_num=0)
        landmarks = [()] * len(boxes) if points is None else [tuple(map(float, p.flatten())) for p in points]
        return [
            Face(tuple(map(float, box[:4])), where, float(box[4])) for box, where in zip(boxes, landmarks, strict=True)
        ]
