"""Reports as tables: the evaluation's own, and the form of the paper's Table 2a."""

import re
import statistics
from collections.abc import Mapping, Sequence

from pm.evaluate.scores import ReportRow
from pm.evaluate.statistics import Interval, share_of_gap
from pm.markdown import mean_sd, table

_SEED = re.compile(r"(^|_)seed-\d+")


def _cell(interval: Interval | None) -> str:
    return "–" if interval is None else str(interval)


def main_table(
    rows: Sequence[ReportRow], floor: ReportRow | None, ceiling: ReportRow | None, heads: Mapping[str, str]
) -> str:
    """All rows: scores in percent with 95 % intervals, and identity's share of the floor–ceiling gap."""
    header, body = [""], [[row.name] for row in rows]
    for name in rows[0].scores:
        header.append(heads[name])
        for cells, row in zip(body, rows, strict=True):
            cells.append(_cell(row.interval(name)))
        if name == "identity" and floor is not None and ceiling is not None:
            header.append("share of the gap")
            for cells, row in zip(body, rows, strict=True):
                cells.append(_share(row.interval(name), floor.interval(name), ceiling.interval(name)))
    for cells, row in zip(body, rows, strict=True):
        cells.append("–" if row.seconds_per_image is None else f"{row.seconds_per_image:.2f}")
    return table([*header, "s / image"], body)


def _share(value: Interval | None, floor: Interval | None, ceiling: Interval | None) -> str:
    if value is None or floor is None or ceiling is None:
        return "–"
    return f"{100 * share_of_gap(value.mean, floor.mean, ceiling.mean):.0f} %"


def _columns(row: ReportRow) -> list[str]:
    """The metrics in the order of the paper's tables: the prompt first."""
    return sorted(row.scores, key=lambda name: name != "prompt")


def _means(rows: Sequence[ReportRow], name: str) -> list[Interval]:
    return [score for row in rows if (score := row.interval(name)) is not None]


def attribute_table(rows: Sequence[ReportRow]) -> str:
    """Probe accuracy in percent per attribute (columns) and row."""
    names = list(dict.fromkeys(k for row in rows for k in row.per_attribute))

    def cells(row: ReportRow) -> list[str]:
        return [f"{100 * row.per_attribute[k]:.0f}" if k in row.per_attribute else "–" for k in names]

    body = [[row.name, *cells(row)] for row in rows]
    return table(["", *(n.replace("_", " ") for n in names)], body)


def seeds_table(rows: Sequence[ReportRow], heads: Mapping[str, str]) -> str | None:
    """Mean ± standard deviation over the seeds of a sweep's cells (`<cell>_seed-<n>`), or None without any."""
    groups: dict[str, list[ReportRow]] = {}
    for row in rows:
        groups.setdefault(_SEED.sub("", row.name), []).append(row)
    if max(map(len, groups.values()), default=0) < 2:
        return None
    body, columns = [], _columns(rows[0])
    for name, members in groups.items():
        scores = [[100 * score.mean for score in _means(members, column)] for column in columns]
        body.append([name, str(len(members)), *(mean_sd(values, 1) for values in scores)])
    return table(["", "seeds", *(f"{heads[column]} ↑" for column in columns)], body)


def composing_table(rows: Sequence[ReportRow], heads: Mapping[str, str]) -> str | None:
    """The form of the paper's Table 2a, 'Embedding composing choices', or None with fewer than two composers.

    The toon world's scores stand in for the paper's: prompt score for CLIP-T, identity score for face similarity,
    diversity for face diversity. The most references evaluated count; the best of a column is bold. Adapters that
    differ in nothing else, a sweep's seeds, share a row: mean ± standard deviation over them, not an interval.
    """
    adapters = [r for r in rows if r.compose is not None]
    most = max((r.references or 0 for r in adapters), default=0)
    groups: dict[tuple[str, str], list[ReportRow]] = {}
    for row in sorted((r for r in adapters if r.references == most), key=lambda r: str(r.compose)):
        groups.setdefault((str(row.compose), str(row.merge)), []).append(row)
    if len({compose for compose, _ in groups}) < 2:
        return None
    merges, seeds = {merge for _, merge in groups}, max(map(len, groups.values()))
    body = [[c.capitalize() + (f" ({merge})" if len(merges) > 1 else "")] for c, merge in groups]
    if seeds > 1:
        for cells, members in zip(body, groups.values(), strict=True):
            cells.append(str(len(members)))
    columns = _columns(adapters[0])
    for column in columns:
        scores = [_means(members, column) for members in groups.values()]
        means = [statistics.fmean(v.mean for v in values) if values else None for values in scores]
        best = max((mean for mean in means if mean is not None), default=None)
        for cells, values, mean in zip(body, scores, means, strict=True):
            text = mean_sd([100 * v.mean for v in values], 1) if len(values) > 1 else _cell(next(iter(values), None))
            cells.append(f"**{text}**" if mean is not None and mean == best else text)
    header = [f"{most} references", *(["seeds"] if seeds > 1 else []), *(f"{heads[column]} ↑" for column in columns)]
    return table(header, body)
