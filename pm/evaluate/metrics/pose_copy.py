"""Does the head turn as in the reference photos: the copy-paste measure on poses, by five landmarks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pm.errors import ConfigError
from pm.evaluate.faces import FaceFinder, face_finder
from pm.evaluate.following import Pose, copied, pose_of, turns
from pm.evaluate.metrics.base import Measured, Metric, MetricChoice, Pictures
from pm.photo.faces.detect import EYES_NOSE_MOUTH, FaceChoice

Compare = Callable[[list[Pose], list[Pose]], np.ndarray]


@dataclass(frozen=True)
class PoseCopy(MetricChoice):
    """One value per image with a face, -1..1: 1 as a reference, -1 as another photo of the person."""

    face: FaceChoice

    title: ClassVar[str] = "pose copied"
    higher_is_better: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_landmarks(self.name, self.face)

    def load(self, device: str) -> Metric:
        return Following(face_finder(self.face, device), turns)


def check_landmarks(name: str, face: FaceChoice) -> None:
    """Raises ConfigError: the detector does not find the landmarks that tell a pose."""
    if face.landmarks != EYES_NOSE_MOUTH:
        raise ConfigError(
            f"metric {name} needs landmarks ({EYES_NOSE_MOUTH}), which face={face.name} does not find; choose yunet or "
            "insightface"
        )


class Following(Metric):
    """`pm.evaluate.following.copied` on what landmarks show."""

    def __init__(self, finder: FaceFinder, compare: Compare):
        self._finder, self._compare, self.model = finder, compare, finder.model

    def measure(self, batch: Sequence[Pictures]) -> list[Measured]:
        return [self._one(pictures) for pictures in batch]

    def _one(self, pictures: Pictures) -> Measured:
        trial = pictures.trial
        references = self._poses([photo.image for photo in trial.references])
        others = self._poses([photo.image for photo in trial.held_out])
        if not references or not others:
            return Measured([])
        between = self._compare(references, others)
        values = [
            copied(self._compare([pose], references)[0], self._compare([pose], others)[0], between)
            for pose in self._poses(pictures.images)
        ]
        return Measured([v for v in values if v is not None])

    def _poses(self, images: Sequence[np.ndarray]) -> list[Pose]:
        faces = [face for face in self._finder(images) if face is not None]
        return [pose_of(np.reshape(face.landmarks, (5, 2))) for face in faces]
