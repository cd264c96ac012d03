"""Does it follow the words: the share of prompted attributes that the probe reads from a picture as they were asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pm.evaluate.metrics.base import Measured, MetricChoice, Reading, hits_of

if TYPE_CHECKING:
    from pm.evaluate.trials import Trial


@dataclass(frozen=True)
class Prompt(MetricChoice):
    """One value per image."""

    def measure(self, trial: Trial, images: Sequence[np.ndarray], readings: Sequence[Reading]) -> Measured:
        return hits_of([{k: float(reading[k] == v) for k, v in trial.prompted.items()} for reading in readings])
