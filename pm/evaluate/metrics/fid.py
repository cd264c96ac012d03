"""FID: how far the pictures as a set are from real photos, by Inception's features (paper section 4.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pm.evaluate.frechet import frechet_interval
from pm.evaluate.metrics.base import Measured, Metric, MetricChoice, Model, Pictures
from pm.evaluate.models.features import Features, digest
from pm.evaluate.models.inception import load_inception
from pm.evaluate.statistics import Interval

_TAGS = 2**24 - 1  # whole numbers that float32 holds


@dataclass(frozen=True)
class Fid(MetricChoice):
    """One value of all pictures: their Fréchet distance to all photos of the same people, shown or held out."""

    path: str  # weights of Inception v3: file, folder or Hub id

    title: ClassVar[str] = "FID"
    higher_is_better: ClassVar[bool] = False
    percent: ClassVar[bool] = False

    def load(self, device: str) -> Metric:
        return SetDistance(*load_inception(self.path, device))


class SetDistance(Metric):
    """By any features. A row of `Measured.features`: 0 and a picture's features, or a photo's tag and its features."""

    def __init__(self, features: Features, model: Model):
        self._features, self.model = features, model

    def measure(self, batch: Sequence[Pictures]) -> list[Measured]:
        groups = [[*pictures.images, *_photos(pictures)] for pictures in batch]
        tags = [[0] * len(p.images) + [_tag(photo) for photo in _photos(p)] for p in batch]
        rows = zip(tags, self._features.of_each(groups), strict=True)
        return [Measured([], np.column_stack([np.array(t, np.float32), f]) if t else None) for t, f in rows]

    def summary(self, people: Mapping[str, Sequence[Measured]]) -> Interval | None:
        made, real = {}, {}
        for person, trials in people.items():
            found = [measured.features for measured in trials if measured.features is not None]
            if not found:
                continue
            rows = np.concatenate(found)
            made[person] = rows[rows[:, 0] == 0, 1:]
            photos = rows[rows[:, 0] != 0]  # the same ones with every prompt
            real[person] = photos[np.unique(photos[:, 0], return_index=True)[1], 1:]
        return frechet_interval(made, real)


def _photos(pictures: Pictures) -> list[np.ndarray]:
    return [photo.image for photo in (*pictures.trial.references, *pictures.trial.held_out)]


def _tag(photo: np.ndarray) -> int:
    """Tells a person's photos apart."""
    shape, data = digest(photo)
    return 1 + int.from_bytes(data[:8], "little") % _TAGS
