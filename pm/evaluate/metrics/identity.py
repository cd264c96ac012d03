"""Is it this person: the share of identity attributes that the probe reads from a picture as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pm.evaluate.metrics.base import Measured, MetricChoice, Reading, hits_of
from pm.toon.attributes import IDENTITY_ATTRIBUTES

if TYPE_CHECKING:
    from pm.evaluate.trials import Trial


@dataclass(frozen=True)
class Identity(MetricChoice):
    """One value per image."""

    def measure(self, trial: Trial, images: Sequence[np.ndarray], readings: Sequence[Reading]) -> Measured:
        return hits_of([{k: float(r[k] == getattr(trial.person, k)) for k in IDENTITY_ATTRIBUTES} for r in readings])
