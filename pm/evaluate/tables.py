"""Reports as tables: the evaluation's own, and the forms of the paper's Tables 1, 2a and 2b."""

import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pm.errors import ConfigError
from pm.evaluate.scores import ReportRow
from pm.evaluate.statistics import Interval, share_of_gap
from pm.markdown import Table, mean_sd, table

SEED = re.compile(r"(^|_)seed-\d+")
_CONDITION = re.compile(r"condition-(wild|single|stacked)")
_CONDITIONS = {  # the rows of Table 2b
    "wild": "one photo of each person",
    "single": "this project's data, one reference",
    "stacked": "this project's data, 1 to 4 references",
}


@dataclass(frozen=True)
class Column:
    """How a metric is shown."""

    head: str
    percent: bool = True
    higher_is_better: bool = True
    metric: str = ""  # whose values it has, where its own name does not say so

    @property
    def arrowed(self) -> str:
        return f"{self.head} {'↑' if self.higher_is_better else '↓'}"

    def scaled(self, value: float) -> float:
        return 100 * value if self.percent else value

    @property
    def digits(self) -> int:
        return 1 if self.percent else 3

    def cell(self, interval: Interval | None) -> str:
        if interval is None:
            return "–"
        mean, low, high = (f"{self.scaled(v):.{self.digits}f}" for v in (interval.mean, interval.low, interval.high))
        return f"{mean} [{low}, {high}]"

    def best(self, values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return (max if self.higher_is_better else min)(known, default=None)


Columns = Mapping[str, Column]


def check_models(rows: Sequence[ReportRow]) -> None:
    """Refuse a column with values of different models: they cannot be compared.

    Raises:
        ConfigError: names the metric and two of its models.
    """
    for metric in rows[0].scores if rows else ():
        scores = [row.scores[metric] for row in rows if metric in row.scores]
        models = list(dict.fromkeys(s.model for s in scores if s.interval is not None))
        if len(models) > 1:
            names = " and ".join(f"{m.name} {m.fingerprint}" if m else "no model" for m in models[:2])
            raise ConfigError(
                f"metric {metric} has values of {names}, which cannot be compared; measure all rows with one model"
            )


def main_table(
    rows: Sequence[ReportRow], floor: ReportRow | None, ceiling: ReportRow | None, columns: Columns
) -> Table:
    """All rows: scores with 95 % intervals, identity's share of the floor–ceiling gap, and what it took."""
    check_models(rows)
    header, body = [""], [[row.name + ("" if row.complete else f" ({row.made} of {row.asked})")] for row in rows]
    for name in rows[0].scores:
        header.append(columns[name].head)
        for cells, row in zip(body, rows, strict=True):
            cells.append(columns[name].cell(row.interval(name)))
        if name == "identity" and floor is not None and ceiling is not None:
            header.append("share of the gap")
            for cells, row in zip(body, rows, strict=True):
                cells.append(_share(row.interval(name), floor.interval(name), ceiling.interval(name)))
    tuned = any(row.seconds_to_personalise is not None for row in rows)
    for cells, row in zip(body, rows, strict=True):
        cells += [_seconds(row.seconds_to_personalise)] if tuned else []
        cells.append(_seconds(row.seconds_per_image))
    return table([*header, *(["s / person"] if tuned else []), "s / image"], body)


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _share(value: Interval | None, floor: Interval | None, ceiling: Interval | None) -> str:
    if value is None or floor is None or ceiling is None:
        return "–"
    return f"{100 * share_of_gap(value.mean, floor.mean, ceiling.mean):.0f} %"


def _ordered(row: ReportRow) -> list[str]:
    """The metrics in the order of the paper's tables: the prompt first."""
    return sorted(row.scores, key=lambda name: name != "prompt")


def _means(rows: Sequence[ReportRow], name: str) -> list[Interval]:
    return [score for row in rows if (score := row.interval(name)) is not None]


def attribute_table(rows: Sequence[ReportRow]) -> Table | None:
    """Accuracy in percent per attribute (columns) and row; None where no metric looks at attributes."""
    names = list(dict.fromkeys(k for row in rows for k in row.per_attribute))
    if not names:
        return None

    def cells(row: ReportRow) -> list[str]:
        return [f"{100 * row.per_attribute[k]:.0f}" if k in row.per_attribute else "–" for k in names]

    return table(["", *(n.replace("_", " ") for n in names)], [[row.name, *cells(row)] for row in rows])


def seeds_table(rows: Sequence[ReportRow], columns: Columns) -> Table | None:
    """Mean ± standard deviation over the seeds of a sweep's cells (`<cell>_seed-<n>`), or None without any."""
    groups: dict[str, list[ReportRow]] = {}
    for row in rows:
        groups.setdefault(SEED.sub("", row.name), []).append(row)
    if max(map(len, groups.values()), default=0) < 2:
        return None
    body, names = [], _ordered(rows[0])
    for label, members in groups.items():
        scores = [[columns[n].scaled(score.mean) for score in _means(members, n)] for n in names]
        body.append(
            [label, str(len(members)), *(mean_sd(v, columns[n].digits) for n, v in zip(names, scores, strict=True))]
        )
    return table(["", "seeds", *(columns[n].arrowed for n in names)], body)


def methods_table(rows: Sequence[ReportRow], columns: Columns) -> Table | None:
    """The form of the paper's Table 1: methods against each other, the best of a column bold, and the time of a picture
    of somebody new. Rows of a method with fewer references than it has elsewhere are left out. None with one method."""
    most = max((row.references or 0 for row in rows), default=0)
    shown = [row for row in rows if row.references in (None, most)]
    if len({row.about.get("method") for row in shown}) < 2:
        return None
    names = _ordered(shown[0])
    body, header = [[row.name.split(", ")[0]] for row in shown], [f"{most} references" if most else ""]
    for name in names:
        header.append(columns[name].arrowed)
        _add_best(body, [row.interval(name) for row in shown], columns[name])
    if all(row.seconds_per_image is None for row in shown):  # made elsewhere
        return table(header, body)
    header.append("seconds ↓")
    for cells, row in zip(body, shown, strict=True):
        known = row.seconds_per_image
        cells.append("–" if known is None else f"{known + (row.seconds_to_personalise or 0):.2f}")
    return table(header, body)


def _add_best(body: list[list[str]], values: Sequence[Interval | None], column: Column) -> None:
    best = column.best([None if v is None else v.mean for v in values])
    for cells, value in zip(body, values, strict=True):
        text = column.cell(value)
        cells.append(f"**{text}**" if value is not None and value.mean == best else text)


def composing_table(rows: Sequence[ReportRow], columns: Columns) -> Table | None:
    """The form of the paper's Table 2a, 'Embedding composing choices'.

    None with fewer than two composers of one kind of adapter: other kinds differ in more than how they compose.

    In the toon world prompt score stands for CLIP-T, identity score for face similarity, diversity for face diversity.
    The most references evaluated count. Adapters that differ in nothing else, a sweep's seeds, share a row: mean ±
    standard deviation over them, not an interval.
    """
    kinds: dict[str | None, list[ReportRow]] = {}
    for row in rows:
        if row.compose is not None:
            kinds.setdefault(row.about.get("kind"), []).append(row)
    adapters = max(kinds.values(), key=lambda found: len({row.compose for row in found}), default=[])
    merges = {row.merge for row in adapters}

    def name(row: ReportRow) -> str | None:
        return str(row.compose).capitalize() + (f" ({row.merge})" if len(merges) > 1 else "")

    return _grouped(adapters, name, columns, len({row.compose for row in adapters}) > 1)


def condition_table(rows: Sequence[ReportRow], columns: Columns) -> Table | None:
    """The form of the paper's Table 2b: what data and stacking bring, for cells of `experiment=table2b`."""

    def name(row: ReportRow) -> str | None:
        found = _CONDITION.search(row.name)
        return _CONDITIONS[found[1]] if found else None

    adapters = [row for row in rows if name(row) is not None]
    order = list(_CONDITIONS.values())
    adapters.sort(key=lambda row: order.index(str(name(row))))
    return _grouped(adapters, name, columns, len({name(row) for row in adapters}) > 1, keep_order=True)


def _grouped(
    rows: Sequence[ReportRow],
    name: Callable[[ReportRow], str | None],
    columns: Columns,
    shown: bool,
    keep_order: bool = False,
) -> Table | None:
    if not shown:
        return None
    most = max(row.references or 0 for row in rows)
    groups: dict[str, list[ReportRow]] = {}
    kept = [row for row in rows if row.references == most]
    for row in kept if keep_order else sorted(kept, key=lambda row: str(name(row))):
        groups.setdefault(str(name(row)), []).append(row)
    seeds, body = max(map(len, groups.values())), [[label] for label in groups]
    if seeds > 1:
        for cells, members in zip(body, groups.values(), strict=True):
            cells.append(str(len(members)))
    names = _ordered(rows[0])
    for metric in names:
        column, scores = columns[metric], [_means(members, metric) for members in groups.values()]
        means = [statistics.fmean(v.mean for v in values) if values else None for values in scores]
        for cells, values, mean in zip(body, scores, means, strict=True):
            several = [column.scaled(v.mean) for v in values]
            text = mean_sd(several, column.digits) if len(values) > 1 else column.cell(next(iter(values), None))
            cells.append(f"**{text}**" if mean is not None and mean == column.best(means) else text)
    heads = [columns[metric].arrowed for metric in names]
    return table([f"{most} references", *(["seeds"] if seeds > 1 else []), *heads], body)
