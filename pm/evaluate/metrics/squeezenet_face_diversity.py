"""Face Div. by the SqueezeNet perceptual distance: a stand-in for the one by LPIPS that needs no download."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Ge

from pm.evaluate.faces import face_finder
from pm.evaluate.metrics.base import Metric, MetricChoice
from pm.evaluate.metrics.face_diversity import FacePairs
from pm.evaluate.models.perceptual import load_squeezenet
from pm.photo.faces.detect import FaceChoice


@dataclass(frozen=True)
class SqueezenetFaceDiversity(MetricChoice):
    """One value per trial; none where fewer than two of its pictures show a face."""

    face: FaceChoice
    side: Annotated[int, Ge(64)]  # px, what faces are scaled to

    title: ClassVar[str] = "Face Div. (SqueezeNet)"

    def load(self, device: str) -> Metric:
        distances, model = load_squeezenet(self.side, device)
        return FacePairs(face_finder(self.face, device), distances, model)
