"""Scores by category of the prompt: what a method can be asked for."""

from collections.abc import Sequence

from pm.evaluate.scores import ReportRow
from pm.evaluate.tables import Columns
from pm.markdown import Table, table


def category_table(rows: Sequence[ReportRow], columns: Columns) -> Table | None:
    """A line for each row and category, with intervals over people; None where prompts have no categories, or one."""
    names = list(dict.fromkeys(c for row in rows for score in row.scores.values() for c in score.per_category))
    if len(names) < 2:
        return None
    shown = [m for m in rows[0].scores if any(row.scores[m].per_category for row in rows)]
    body = [
        [row.name, category, *(columns[m].cell(row.scores[m].per_category.get(category)) for m in shown)]
        for row in rows
        for category in names
    ]
    return table(["", "category", *(columns[m].arrowed for m in shown)], body)
