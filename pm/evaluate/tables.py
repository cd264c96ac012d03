"""Reports as tables: the evaluation's own, and the form of the paper's Table 2a."""

from collections.abc import Sequence

from pm.evaluate.metrics import Interval, share_of_way
from pm.evaluate.protocol import ReportRow
from pm.markdown import table

PAPER_ORDER = ("average", "linear", "stacked")


def _cell(interval: Interval | None) -> str:
    return "–" if interval is None else str(interval)


def main_table(rows: Sequence[ReportRow], floor: ReportRow, ceiling: ReportRow) -> str:
    """All rows: scores in percent with 95 % intervals, and how far identity is on the way from floor to ceiling."""
    cells = []
    for row in rows:
        way = share_of_way(row.identity.mean, floor.identity.mean, ceiling.identity.mean)
        seconds = "–" if row.seconds_per_image is None else f"{row.seconds_per_image:.2f}"
        cells.append(
            [row.name, _cell(row.identity), f"{100 * way:.0f} %", _cell(row.prompt), _cell(row.diversity), seconds]
        )
    return table(["", "identity", "of the way", "prompt", "diversity", "s / image"], cells)


def attribute_table(rows: Sequence[ReportRow]) -> str:
    """Probe accuracy in percent per attribute (columns) and row."""
    names = list(dict.fromkeys(k for row in rows for k in row.per_attribute))

    def cells(row: ReportRow) -> list[str]:
        return [f"{100 * row.per_attribute[k]:.0f}" if k in row.per_attribute else "–" for k in names]

    body = [[row.name, *cells(row)] for row in rows]
    return table(["", *(n.replace("_", " ") for n in names)], body)


def composing_table(rows: Sequence[ReportRow]) -> str | None:
    """The form of the paper's Table 2a, 'Embedding composing choices', or None with fewer than two composers.

    The toon world's scores stand in for the paper's: prompt score for CLIP-T, identity score for face similarity,
    diversity for face diversity. The most references evaluated count; the best of a column is bold.
    """
    adapters = [r for r in rows if r.compose in PAPER_ORDER]
    most = max((r.references for r in adapters), default=0)
    chosen = sorted((r for r in adapters if r.references == most), key=lambda r: PAPER_ORDER.index(r.compose))
    if len({r.compose for r in chosen}) < 2:
        return None
    columns = [("prompt ↑", "prompt"), ("identity ↑", "identity"), ("diversity ↑", "diversity")]
    body = [[_label(r, chosen)] for r in chosen]
    for _, field in columns:
        values = [getattr(r, field) for r in chosen]
        best = max((v.mean for v in values if v), default=None)
        for cells, value in zip(body, values, strict=True):
            cells.append(f"**{value}**" if value and value.mean == best else _cell(value))
    return table([f"{most} references", *(c for c, _ in columns)], body)


def _label(row: ReportRow, rows: Sequence[ReportRow]) -> str:
    merges = {r.merge for r in rows}
    return row.compose.capitalize() + (f" ({row.merge})" if len(merges) > 1 else "")
