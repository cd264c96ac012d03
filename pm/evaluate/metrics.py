"""Scores of the toon protocol. Pure: probe readings in, numbers out.

All scores lie in [0, 1], higher is better, and are first averaged per identity, so that the bootstrap resamples
people, the unit that results must generalise over.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from pm.toon.attributes import IDENTITY_ATTRIBUTES, PHOTO_ATTRIBUTES, Identity

Reading = Mapping[str, str]  # attribute → the value the probe read


@dataclasses.dataclass(frozen=True)
class Interval:
    """A mean with its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{100 * self.mean:.1f} [{100 * self.low:.1f}, {100 * self.high:.1f}]"


def identity_hits(reading: Reading, person: Identity) -> dict[str, float]:
    """1.0 for each identity attribute of `person` that was read from the picture, else 0.0."""
    return {k: float(reading[k] == getattr(person, k)) for k in IDENTITY_ATTRIBUTES}


def prompt_hits(reading: Reading, prompted: Mapping[str, str]) -> dict[str, float]:
    """1.0 for each prompted attribute that was read from the picture, else 0.0."""
    return {k: float(reading[k] == v) for k, v in prompted.items()}


def diversity(readings: Sequence[Reading], prompted: Mapping[str, str], omitted: frozenset[str]) -> float | None:
    """Share of image pairs of one prompt that differ in the attributes the prompt left open; None without a pair."""
    free = [k for k in PHOTO_ATTRIBUTES if k in omitted and k not in prompted]
    pairs = list(itertools.combinations(readings, 2))
    if not pairs or not free:
        return None
    return float(np.mean([[a[k] != b[k] for k in free] for a, b in pairs]))


def bootstrap(per_identity: Sequence[float], resamples: int = 2000, seed: int = 0) -> Interval:
    """Mean of one value per identity, with the percentile bootstrap over identities."""
    values = np.asarray(per_identity, dtype=np.float64)
    rng = np.random.default_rng(seed)
    means = values[rng.integers(len(values), size=(resamples, len(values)))].mean(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(float(values.mean()), float(low), float(high))


def share_of_gap(value: float, floor: float, ceiling: float) -> float:
    """Share of the floor–ceiling gap that `value` covers: 0 at the floor, 1 at the ceiling."""
    return (value - floor) / (ceiling - floor) if ceiling != floor else float("nan")
