"""Does it vary: the share of pairs of pictures of one prompt that differ in the attributes the prompt left open."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pm.evaluate.metrics.base import Measured, MetricChoice, Reading
from pm.toon.attributes import PHOTO_ATTRIBUTES

if TYPE_CHECKING:
    from pm.evaluate.trials import Trial


@dataclass(frozen=True)
class Diversity(MetricChoice):
    """One value per trial; none without two images, or where the prompt left nothing open."""

    def measure(self, trial: Trial, images: Sequence[np.ndarray], readings: Sequence[Reading]) -> Measured:
        free = [k for k in PHOTO_ATTRIBUTES if k in trial.omitted and k not in trial.prompted]
        pairs = list(itertools.combinations(readings, 2))
        if not pairs or not free:
            return Measured([])
        return Measured([float(np.mean([[a[k] != b[k] for k in free] for a, b in pairs]))])
