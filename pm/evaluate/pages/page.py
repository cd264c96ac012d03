"""The report of an evaluation as one HTML page: tables, plots, and every picture with its values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2

from pm.evaluate.pages.pictures import EMBEDDED, browsing, short
from pm.evaluate.pages.scatter import Plot, scatter
from pm.evaluate.pairs import Pair
from pm.evaluate.scores import ReportRow
from pm.evaluate.statistics import Interval
from pm.evaluate.tables import Columns
from pm.files import write_text
from pm.markdown import Table
from pm.methods.trial import Trial

FILE = "report.html"
# What an axis means, by the metrics that say it: the first that has values is drawn.
_IDENTITY = (
    "identity",
    "face_similarity",
    "toon_face_similarity",
    "effnet_similarity",
    "dino",
    "clip_i",
    "toon_clip_i",
)
_PROMPT = ("prompt", "clip_t", "toon_clip_t")
_COPYING = ("copy_paste", "toon_copy_paste", "pose_copy", "expression_copy")


@dataclass(frozen=True)
class Section:
    """A table under its heading."""

    title: str
    table: Table
    note: str = ""
    reference: str = ""  # of a table of pairs: the row that stands first, of which a reader may choose another


@dataclass(frozen=True)
class Content:
    """What the page tells, apart from the pictures, which it finds in the folder of the evaluation."""

    title: str
    summary: str
    missing: str  # what a partial run has not made yet; "" for a complete one
    sections: Sequence[Section]
    trials: Sequence[Trial]
    rows: Sequence[ReportRow]
    columns: Columns
    settings: Mapping[str, str]
    pairs: Sequence[Pair] = ()


def environment() -> jinja2.Environment:
    """Of the pages in this folder; whatever they are given is escaped."""
    result = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    result.policies["json.dumps_kwargs"] = {}  # keys in their own order
    return result


def write_page(output: Path, content: Content) -> Path:
    """Write `report.html` into the folder of an evaluation; returns its path.

    Pictures of up to `EMBEDDED` bytes together are inside the page; with more, it names the files beside it and a
    browser loads those that are looked at.

    Raises:
        WriteError: the output cannot be written.
    """
    data, inside = browsing(output, content.trials, content.rows, content.columns)
    names = [row.name for row in content.rows]
    data["pairs"] = [
        [names.index(pair.first), names.index(pair.second)]
        + [{name: [short(v) for v in (d.mean, d.low, d.high)] for name, d in pair.differences.items()}]
        for pair in content.pairs
    ]
    compared = [name for name in names if any(name in (pair.first, pair.second) for pair in content.pairs)]
    categories = [c for c in dict.fromkeys(trial.category for trial in content.trials) if c]
    text = environment().get_template("report.html.j2").render(
        content=content,
        plots=plots(content.rows, content.columns),
        names=names,
        categories=categories,
        compared=compared,
        data=data,
        inside=inside,
        limit=EMBEDDED // 2**20,
    )  # fmt: skip
    write_text(output / FILE, text, sync=False)
    return output / FILE


def plots(rows: Sequence[ReportRow], columns: Columns) -> list[tuple[str, Plot | None, str]]:
    """Identity against prompt and against copy-paste: title, plot, and why there is none."""
    identity = _first(_IDENTITY, rows, columns)
    result: list[tuple[str, Plot | None, str]] = []
    for name, title, wanted in (("prompt", "prompt", _PROMPT), ("copying", "copy-paste", _COPYING)):
        other = _first(wanted, rows, columns)
        plot = None
        if identity and other:
            points = [(i, row.name, _of(row, other), _of(row, identity)) for i, row in enumerate(rows, start=1)]
            plot = scatter(name, columns[other], columns[identity], points)
        lacking = [what for what, found in (("identity", identity), (title, other)) if not found]
        options = _IDENTITY if not identity else wanted
        why = (
            f"No metric of {' and '.join(lacking)} has values; one of {', '.join(options)} in metrics= draws this plot."
        )
        result.append((f"Identity against {title}", plot, "" if plot else why))
    return result


def _of(row: ReportRow, metric: str) -> Interval | None:
    return row.scores[metric].interval if metric in row.scores else None


def _first(wanted: Sequence[str], rows: Sequence[ReportRow], columns: Columns) -> str | None:
    """The first column of the wanted metrics that has values; of two of one metric, the one with its own name."""
    named = [(name, key) for name in wanted for key, column in columns.items() if name in (key, column.metric)]
    named.sort(key=lambda pair: (wanted.index(pair[0]), pair[0] != pair[1]))
    return next((key for _, key in named if any(_of(row, key) is not None for row in rows)), None)
