"""SqueezeNet perceptual distance of a picture to the person's photos. A stand-in for LPIPS that needs no download."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Ge

from pm.evaluate.metrics.base import Metric, MetricChoice
from pm.evaluate.metrics.lpips import PhotoDistance
from pm.evaluate.models.perceptual import load_squeezenet
from pm.evaluate.photos import Against


@dataclass(frozen=True)
class SqueezenetDistance(MetricChoice):
    """One value per image: its mean distance to the photos."""

    side: Annotated[int, Ge(64)]  # px, what pictures are scaled to
    against: Against  # which photos of the person

    title: ClassVar[str] = "SqueezeNet distance"
    higher_is_better: ClassVar[bool] = False
    percent: ClassVar[bool] = False

    def load(self, device: str) -> Metric:
        distances, model = load_squeezenet(self.side, device)
        return PhotoDistance(distances, self.against, model)
