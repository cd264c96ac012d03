"""Means over people with their intervals, and where they lie between floor and ceiling."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Interval:
    """A mean with its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{100 * self.mean:.1f} [{100 * self.low:.1f}, {100 * self.high:.1f}]"


def bootstrap(per_identity: Sequence[float], resamples: int = 2000, seed: int = 0) -> Interval:
    """Mean of one value per identity, with the percentile bootstrap over identities."""
    low, high = np.percentile(resampled(per_identity, resamples, seed), [2.5, 97.5])
    return Interval(float(np.mean(per_identity)), float(low), float(high))


def resampled(per_identity: Sequence[float], resamples: int = 2000, seed: int = 0) -> np.ndarray:
    """Means [resamples] of identities drawn with replacement; for as many identities, the same ones are drawn."""
    values = np.asarray(per_identity, dtype=np.float64)
    rng = np.random.default_rng(seed)
    means: np.ndarray = values[rng.integers(len(values), size=(resamples, len(values)))].mean(1)
    return means


def share_of_gap(value: float, floor: float, ceiling: float) -> float:
    """Share of the floor–ceiling gap that `value` covers: 0 at the floor, 1 at the ceiling."""
    return (value - floor) / (ceiling - floor) if ceiling != floor else float("nan")


def paired(one: Mapping[str, float], other: Mapping[str, float]) -> Interval | None:
    """Mean of `one` minus `other` over the people that both have, with its interval; None where there is nobody.

    Far narrower than what the two intervals suggest: people who are hard for one are hard for the other.
    """
    both = [person for person in one if person in other]
    return bootstrap([one[person] - other[person] for person in both]) if both else None
