"""Tables for reports and terminals."""

import math
import statistics
from collections.abc import Sequence


class Table(str):
    """A Markdown table that still knows its cells, for those who show it in another form."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A Markdown table with padded columns, so that it also reads well in a terminal."""
    widths = [max(len(r[i]) for r in (header, *rows)) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(c.ljust(w) for c, w in zip(cells, widths, strict=True)) + " |"

    result = Table("\n".join([line(header), line(["-" * w for w in widths]), *map(line, rows)]))
    result.header, result.rows = header, rows
    return result


def mean_sd(values: Sequence[float], digits: int | None = None) -> str:
    """`0.1234 ± 0.0056`: mean and sample standard deviation (n − 1); the mean alone for one value, a dash for none.

    `digits` after the point; None: four significant ones of the mean.
    """
    if not values:
        return "–"
    mean = statistics.fmean(values)
    if digits is None:
        digits = max(0, 3 - math.floor(math.log10(abs(mean)))) if mean else 4
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean:.{digits}f}{spread}"
