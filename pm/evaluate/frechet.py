"""The Fréchet distance between two sets of features, taken as Gaussians (Heusel et al. 2017)."""

import numpy as np
import scipy.linalg

from pm.evaluate.statistics import Interval


def frechet_distance(some: np.ndarray, others: np.ndarray) -> float:
    """|μ₁ − μ₂|² + tr(Σ₁ + Σ₂ − 2 (Σ₁ Σ₂)^½).

    The covariances (n − 1 in the denominator) are never made. With the centred rows A and B, scaled so that Σ₁ = AᵀA
    and Σ₂ = BᵀB, the trace of the root is the sum of the singular values of A Bᵀ. That also holds where there are
    fewer pictures than features and Σ is singular.

    Args:
        some: [n, F], n ≥ 2.
        others: [m, F], m ≥ 2.

    Returns:
        0 for identical sets, up to rounding; never negative.
    """
    a, b = np.asarray(some, np.float64), np.asarray(others, np.float64)
    between = float(np.square(a.mean(0) - b.mean(0)).sum())
    a, b = _centred(a), _centred(b)
    roots = scipy.linalg.svdvals(_small(a) @ _small(b).T).sum()
    return max(0.0, between + float(np.square(a).sum() + np.square(b).sum() - 2 * roots))


def frechet_interval(some: dict[str, np.ndarray], others: dict[str, np.ndarray]) -> Interval | None:
    """The distance between all rows of all people, with a 95 % interval: mean ± 1.96 standard errors by the jackknife
    over people.

    The bootstrap, which other metrics use, would be wrong here: people drawn twice make the set less varied, and the
    distance larger.

    Args:
        some: features [n, F] by person.
        others: features [m, F] by person, of the same people.

    Returns:
        None where a set has fewer than two rows. With one person, the interval is the value.
    """
    value = _of(list(some), some, others)
    if value is None:
        return None
    left_out = [_of([p for p in some if p != person], some, others) for person in some]
    values = np.array([v for v in left_out if v is not None])
    if len(values) < 2:
        return Interval(value, value, value)
    count = len(values)
    error = float(np.sqrt((count - 1) / count * np.square(values - values.mean()).sum()))
    return Interval(value, max(0.0, value - 1.96 * error), value + 1.96 * error)


def _of(people: list[str], some: dict[str, np.ndarray], others: dict[str, np.ndarray]) -> float | None:
    if not people:
        return None
    a, b = (np.concatenate([rows[person] for person in people]) for rows in (some, others))
    return frechet_distance(a, b) if min(len(a), len(b)) >= 2 else None


def _centred(rows: np.ndarray) -> np.ndarray:
    return (rows - rows.mean(0)) / np.sqrt(len(rows) - 1)


def _small(rows: np.ndarray) -> np.ndarray:
    """At most F rows with the same RᵀR: the triangular factor of many."""
    return (
        scipy.linalg.qr(rows, mode="r", check_finite=False)[0][: rows.shape[1]] if len(rows) > rows.shape[1] else rows
    )
