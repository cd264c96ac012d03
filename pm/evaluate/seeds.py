"""Trainings against each other over their seeds: the same people, and the same seeds, with both.

One training more or less is an accident, as one person more or less is: the intervals are over both.
"""

from collections.abc import Sequence

import numpy as np

from pm.evaluate.pairs import Pair
from pm.evaluate.scores import ReportRow
from pm.evaluate.statistics import Interval
from pm.evaluate.tables import SEED

_RESAMPLES = 2000


def seeds_apart(rows: Sequence[ReportRow]) -> list[Pair]:
    """Differences of trainings that have several seeds each, where they differ in one thing: in how they were trained,
    with as many references; or in a reference more or less.

    Args:
        rows: of adapters in folders `<training>_seed-<n>`, each with numbers of references.

    Returns:
        Pairs of names without their seeds; empty where there are fewer than two seeds.
    """
    groups: dict[tuple[str, int | None], dict[str, ReportRow]] = {}
    for row in rows:
        label = row.name.split(", ")[0]
        found = SEED.search(label)
        if found is not None:
            groups.setdefault((SEED.sub("", label), row.references), {})[found[0]] = row
    names = list(groups)
    pairs = []
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            alike = one[1] == other[1] if one[0] != other[0] else abs((one[1] or 0) - (other[1] or 0)) == 1
            if not alike:
                continue
            first, second = (one, other) if one[0] != other[0] or (one[1] or 0) > (other[1] or 0) else (other, one)
            differences = _differences(groups[first], groups[second])
            if differences:
                pairs.append(Pair(_name(first), _name(second), differences))
    return pairs


def _name(group: tuple[str, int | None]) -> str:
    label, references = group
    return label if references is None else f"{label}, {references} reference{'s' * (references > 1)}"


def _differences(one: dict[str, ReportRow], other: dict[str, ReportRow]) -> dict[str, Interval]:
    seeds = [seed for seed in one if seed in other]
    if len(seeds) < 2:
        return {}
    found = {}
    for metric in one[seeds[0]].scores:
        pairs = [(one[s].scores[metric].per_person, other[s].scores[metric].per_person) for s in seeds]
        people = [p for p in pairs[0][0] if all(p in mine and p in theirs for mine, theirs in pairs)]
        if people:
            found[metric] = crossed(np.array([[mine[p] - theirs[p] for p in people] for mine, theirs in pairs]))
    return found


def crossed(values: np.ndarray, seed: int = 0) -> Interval:
    """Mean of values [S, P] with its 95 % interval, by a bootstrap that draws both rows and columns (seeds and people)
    with replacement: the pigeonhole bootstrap (Owen 2007)."""
    rng, (rows, columns) = np.random.default_rng(seed), values.shape
    drawn_rows = rng.multinomial(rows, np.full(rows, 1 / rows), size=_RESAMPLES) / rows
    drawn_columns = rng.multinomial(columns, np.full(columns, 1 / columns), size=_RESAMPLES) / columns
    means = ((drawn_rows @ values) * drawn_columns).sum(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(float(values.mean()), float(low), float(high))
