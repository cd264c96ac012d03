"""LPIPS: the perceptual distance of a picture to the person's photos (Zhang et al. 2018). Lower is nearer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge

from pm.evaluate.metrics.base import Measured, Metric, MetricChoice, Model, Pictures
from pm.evaluate.models.perceptual import Distances, load_lpips
from pm.evaluate.photos import Against, photos_of


@dataclass(frozen=True)
class Lpips(MetricChoice):
    """One value per image: its mean distance to the photos."""

    net: Literal["alex", "vgg", "squeeze"]
    path: str  # its weights, trained on ImageNet: file, folder or Hub id
    side: Annotated[int, Ge(64)]  # px, what pictures are scaled to
    against: Against  # which photos of the person

    title: ClassVar[str] = "LPIPS"
    higher_is_better: ClassVar[bool] = False
    percent: ClassVar[bool] = False

    def load(self, device: str) -> Metric:
        distances, model = load_lpips(self.net, self.path, self.side, device)
        return PhotoDistance(distances, self.against, model)


class PhotoDistance(Metric):
    """By any perceptual distance."""

    def __init__(self, distances: Distances, against: Against, model: Model):
        self._distances, self._against, self.model = distances, against, model

    def measure(self, batch: Sequence[Pictures]) -> list[Measured]:
        return [self._one(pictures) for pictures in batch]

    def _one(self, pictures: Pictures) -> Measured:
        photos = photos_of(pictures.trial, self._against)
        if not photos:
            return Measured([])
        return Measured([float(v) for v in self._distances(pictures.images, photos).mean(1)])
