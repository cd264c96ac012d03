"""Does the mouth do what it does in the reference photos: the copy-paste measure on expressions, by five landmarks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pm.evaluate.faces import face_finder
from pm.evaluate.following import expression_changes
from pm.evaluate.metrics.base import Metric, MetricChoice
from pm.evaluate.metrics.pose_copy import Following, check_landmarks
from pm.photo.faces.detect import FaceChoice


@dataclass(frozen=True)
class ExpressionCopy(MetricChoice):
    """One value per image with a face, -1..1: 1 as a reference, -1 as another photo of the person. Of an expression,
    five landmarks show how wide the mouth is and how high its corners are; eyes and brows they do not show."""

    face: FaceChoice

    title: ClassVar[str] = "expression copied"
    higher_is_better: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_landmarks(self.name, self.face)

    def load(self, device: str) -> Metric:
        return Following(face_finder(self.face, device), expression_changes)
