"""Rows against each other, person by person: far narrower than what the intervals of both suggest."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pm.evaluate.scores import ReportRow
from pm.evaluate.statistics import Interval, paired, resampled


@dataclass(frozen=True)
class Pair:
    """`first` minus `second`, names of rows, in every column where people have both."""

    first: str
    second: str
    differences: Mapping[str, Interval]

    @property
    def label(self) -> str:
        return f"{self.first} − {self.second}"

    def turned(self) -> "Pair":
        """The other way round; the bootstrap's percentiles are those of the mirrored means."""
        found = {name: Interval(-d.mean, -d.high, -d.low) for name, d in self.differences.items()}
        return Pair(self.second, self.first, found)


def all_pairs(rows: Sequence[ReportRow]) -> list[Pair]:
    """Each row minus every later one."""
    known = [_Resampled(row) for row in rows]
    found = []
    for i, one in enumerate(known):
        for other in known[i + 1 :]:
            differences = one.minus(other)
            if differences:
                found.append(Pair(one.row.name, other.row.name, differences))
    return found


def against(pairs: Sequence[Pair], reference: str) -> list[Pair]:
    """A row minus every other, of all pairs."""
    mine = [pair for pair in pairs if reference in (pair.first, pair.second)]
    return [pair if pair.first == reference else pair.turned() for pair in mine]


class _Resampled:
    """A row's means of resampled people, in each column: of the same people, the difference of two rows' is that of
    their difference, so that n rows need n bootstraps and not n²."""

    def __init__(self, row: ReportRow) -> None:
        self.row = row
        self._people = {name: list(score.per_person) for name, score in row.scores.items()}
        self._means = {
            name: resampled(list(score.per_person.values())) for name, score in row.scores.items() if score.per_person
        }

    def minus(self, other: "_Resampled") -> dict[str, Interval]:
        found = {}
        for name, score in self.row.scores.items():
            mine, theirs = score.per_person, other.row.scores[name].per_person
            if not mine or self._people[name] != other._people[name]:
                difference = paired(mine, theirs)
            else:
                low, high = np.percentile(self._means[name] - other._means[name], [2.5, 97.5])
                mean = float(np.mean([mine[person] - theirs[person] for person in mine]))
                difference = Interval(mean, float(low), float(high))
            if difference is not None:
                found[name] = difference
        return found
