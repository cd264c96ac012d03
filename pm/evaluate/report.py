"""The report of an evaluation: JSON with everything, Markdown with the tables, and a picture of a few people."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pm.evaluate import tables
from pm.evaluate.categories import category_table
from pm.evaluate.columns import settings_of
from pm.evaluate.config import EvaluateConfig
from pm.evaluate.metrics.base import MetricChoice
from pm.evaluate.pages.blind import write_blind
from pm.evaluate.pages.page import Content, Section, write_page
from pm.evaluate.pairs import Pair, against, all_pairs
from pm.evaluate.picture import grid
from pm.evaluate.scores import ReportRow, Scored
from pm.evaluate.seeds import seeds_apart
from pm.evaluate.statistics import Interval
from pm.files import write_json, write_text, writing
from pm.markdown import Table, table
from pm.methods.trial import Trial
from pm.sample.output_file import save_png

FLOOR = "base alone (floor)"
OVER_SEEDS = "Paired differences, over people and seeds"


@dataclass(frozen=True)
class Report:
    """What there is to tell."""

    config: EvaluateConfig
    trials: Sequence[Trial]
    rows: Sequence[ReportRow]  # as far as there are any
    asked: int  # rows that there will be
    without_held_out: Sequence[str]  # people
    base: str  # fingerprint; "" where nothing is made

    @property
    def partial(self) -> bool:
        return len(self.rows) < self.asked or not all(row.complete for row in self.rows)


def columns_of(metrics: Sequence[MetricChoice]) -> dict[str, tables.Column]:
    return {m.key: tables.Column(m.head, m.percent, m.higher_is_better, m.name) for m in metrics}


def write_report(report: Report) -> str:
    """Write `report.json`, `report.md`, `report.html`, `grid.png`, and when all is made `blind.html` with its key.

    Returns:
        The tables.

    Raises:
        WriteError: the output cannot be written.
        ConfigError: a column would have values of different models.
    """
    config, output = report.config, Path(report.config.output)
    if not report.rows:
        text = f"no pictures of these settings in {output.absolute()} yet"
        with writing(output, "output="):
            write_json(output / "report.json", _json(report, [], None, None), indent=2)
        return text
    floor, ceiling, made = _framed(report.rows)
    shown = [*([floor] if floor else []), *made, *([ceiling] if ceiling else [])]
    columns = columns_of(config.metrics)
    main = tables.main_table(shown, floor, ceiling, columns)
    extra = {
        "Methods (the form of the paper's Table 1)": tables.methods_table(
            [*([floor] if floor else []), *made], columns
        ),
        "Over seeds: mean ± standard deviation": tables.seeds_table(made, columns) if made else None,
        "Embedding composing choices (the form of the paper's Table 2a)": tables.composing_table(made, columns),
        "Data and stacking (the form of the paper's Table 2b)": tables.condition_table(made, columns),
        "By category of the prompt": category_table(shown, columns),
    }
    first = headline(made or shown)
    compared = [*(made or shown), *([floor] if floor and made else [])]
    pairs = all_pairs([first, *(row for row in compared if row is not first)])
    over_seeds = seeds_apart(made)
    plain = _plain(pairs)
    if over_seeds:
        extra[OVER_SEEDS] = _pairs_table(over_seeds, columns)
    with writing(output, "output="):
        found = {"paired": plain, "paired_over_seeds": _plain(over_seeds)}
        write_json(output / "report.json", _json(report, made, floor, ceiling) | found, indent=2)
        write_text(output / "report.md", _document(report, main, extra, against(pairs, first.name), columns, shown))
        save_png(output / "grid.png", grid(report.trials, shown, config.grid_identities), {})
        write_page(output, _page(report, main, extra, pairs, columns, shown))
        if not report.partial:
            _write_blind(report, made or shown, floor)
    return "\n\n".join([main, *filter(None, extra.values())])


def _plain(pairs: Sequence[Pair]) -> dict[str, dict[str, Any]]:
    return {pair.label: {n: dataclasses.asdict(v) for n, v in pair.differences.items()} for pair in pairs}


def _framed(rows: Sequence[ReportRow]) -> tuple[ReportRow | None, ReportRow | None, list[ReportRow]]:
    """Floor, ceiling and what is between; the floor is the base alone, where there is a ceiling to it."""
    ceiling = next((row for row in rows if row.name.endswith("(ceiling)")), None)
    floor = next((row for row in rows if row.about.get("method") == "text_only"), None)
    rest = [row for row in rows if row is not floor and row is not ceiling]
    return dataclasses.replace(floor, name=FLOOR) if floor else None, ceiling, rest


def headline(rows: Sequence[ReportRow]) -> ReportRow:
    """The first PhotoMaker with the most references; without one the first row."""
    first = next((row for row in rows if row.about.get("method") == "photomaker"), rows[0])
    same = [row for row in rows if row.name.split(", ")[0] == first.name.split(", ")[0]]
    return max(same, key=lambda row: row.references or 0)


def _write_blind(report: Report, rows: Sequence[ReportRow], floor: ReportRow | None) -> None:
    """The headline row against what Table 1 has, too: no other number of references, and no true pictures."""
    most = max((row.references or 0 for row in rows), default=0)
    shown = [row for row in (*([floor] if floor else []), *rows) if row.references in (None, most)]
    write_blind(Path(report.config.output), report.trials, shown, headline(rows), report.config.blind_pairs)


def _document(
    report: Report,
    main: str,
    extra: Mapping[str, str | None],
    pairs: Sequence[Pair],
    columns: tables.Columns,
    shown: Sequence[ReportRow],
) -> str:
    attributes = tables.attribute_table(shown)
    parts = [
        f"# {report.config.suite.title()}",
        *(["**Partial: not all pictures are made yet.**"] if report.partial else []),
        _summary(report),
        main,
    ]
    for title, text in extra.items():
        parts += [f"## {title}", text] if text else []
    if pairs:
        parts += ["## Paired differences", _PAIRED, _pairs_table(pairs, columns)]
    if attributes:
        parts += ["## Probe accuracy per attribute", attributes]
    parts += ["## The models that measured", _models(report.config.metrics, shown)]
    if report.without_held_out:
        count, names = len(report.without_held_out), ", ".join(report.without_held_out[:5])
        parts.append(
            f"{count} {'person has' if count == 1 else 'people have'} no photos beside the references ({names}"
            f"{', ...' if count > 5 else ''}): metrics that compare with such photos say nothing of them."
        )
    parts.append("![references, then one picture of each row](grid.png)")
    return "\n\n".join(parts) + "\n"


def _summary(report: Report) -> str:
    people, seed = len({t.person for t in report.trials}), report.config.protocol.seed
    prompts = max(sum(t.person == one.person for t in report.trials) for one in report.trials[:1])
    return (
        f"{people} people × {prompts} prompts × {len(report.trials[0].seeds)} images, seed {seed}; with 95 % "
        "bootstrap intervals over people. Scores of the toon world are percent. 'Share of the gap': identity between "
        "floor (0 %) and ceiling (100 %)."
    )


def _page(
    report: Report,
    main: Table,
    extra: Mapping[str, Table | None],
    pairs: Sequence[Pair],
    columns: tables.Columns,
    shown: Sequence[ReportRow],
) -> Content:
    attributes, config = tables.attribute_table(shown), report.config
    sections = [Section("All rows", main), *(Section(title, text) for title, text in extra.items() if text)]
    if pairs:
        first = pairs[0].first
        sections.append(
            Section("Paired differences", _pairs_table(against(pairs, first), columns, pairs), _PAIRED, first)
        )
    if attributes:
        sections.append(Section("Probe accuracy per attribute", attributes, "Percent."))
    sections.append(Section("The models that measured", _models(config.metrics, shown)))
    settings = {**config.suite.about(), "base": config.base.path, "base's fingerprint": report.base}
    settings |= {f"sampler.{key}": value for key, value in dataclasses.asdict(config.sampler).items()}
    if report.without_held_out:
        settings["people without held-out photos"] = ", ".join(report.without_held_out)
    return Content(
        config.suite.title(), _summary(report), _missing(report), sections, report.trials, shown, columns,
        {key: str(value) for key, value in settings.items()}, pairs,
    )  # fmt: skip


def _missing(report: Report) -> str:
    if not report.partial:
        return ""
    asked = report.asked * sum(len(trial.seeds) for trial in report.trials)
    made, later = sum(row.made for row in report.rows), report.asked - len(report.rows)
    rows = "" if not later else f"; {later} of {report.asked} rows are not in this report yet"
    return f"{made} of {asked} pictures are in this report{rows}. The same command makes the others."


_PAIRED = "The same people with both, person by person; bold where the 95 % interval has no 0 in it."


def _pairs_table(pairs: Sequence[Pair], columns: tables.Columns, every: Sequence[Pair] = ()) -> Table:
    """A line for each of `pairs`, with the columns that any of `every` has."""
    found = {name for pair in every or pairs for name in pair.differences}
    names = [name for name in columns if name in found]

    def cell(name: str, difference: Interval | None) -> str:
        text = columns[name].cell(difference)
        return f"**{text}**" if difference is not None and not difference.low <= 0 <= difference.high else text

    body = [[pair.label, *(cell(n, pair.differences.get(n)) for n in names)] for pair in pairs]
    return table(["", *(columns[n].head for n in names)], body)


def _models(metrics: Sequence[MetricChoice], rows: Sequence[ReportRow]) -> Table:
    body = []
    for metric in metrics:
        scores = [row.scores[metric.key] for row in rows]
        model = next((s.model for s in scores if s.model is not None), None)
        why = next((s.why for s in scores if s.why and s.interval is None), "")
        body.append([metric.head, model.name if model else "–", model.fingerprint if model else "–", why])
    return table(["metric", "model", "fingerprint", "note"], body)


def _json(
    report: Report, rows: Sequence[ReportRow], floor: ReportRow | None, ceiling: ReportRow | None
) -> dict[str, Any]:
    config = report.config
    result: dict[str, Any] = {
        "partial": report.partial,
        "about": config.suite.about(),
        "floor": floor and _row(floor),
        "ceiling": ceiling and _row(ceiling),
        "rows": [_row(row) for row in rows],
    }
    if rows:
        result["adapter"] = _row(headline(rows))
    columns = columns_of(config.metrics)
    result["metrics"] = {name: dataclasses.asdict(column) for name, column in columns.items()}
    result["metric_settings"] = {metric.key: settings_of(metric) for metric in config.metrics}
    result |= {"protocol": dataclasses.asdict(config.protocol), "sampler": dataclasses.asdict(config.sampler)}
    result["base"] = {"path": config.base.path, "fingerprint": report.base}
    result["without_held_out"] = len(report.without_held_out)
    return result


def _row(row: ReportRow) -> dict[str, Any]:
    result: dict[str, Any] = {"name": row.name, "key": row.key, "made": row.made, "asked": row.asked}
    result |= {name: None if (v := row.interval(name)) is None else v.mean for name in row.scores}
    for name in ("seconds_per_image", "seconds_to_personalise", "peak_gib", "references", "compose", "merge"):
        result[name] = getattr(row, name)
    result["interval_95"] = {name: [v.low, v.high] for name in row.scores if (v := row.interval(name)) is not None}
    result["metrics"] = {name: _details(score) for name, score in row.scores.items()}
    result["about"] = dict(row.about)
    return result | {"per_attribute": dict(row.per_attribute)}


def _details(score: Scored) -> dict[str, Any]:
    result: dict[str, Any] = {"model": None if score.model is None else dataclasses.asdict(score.model)}
    result["interval"] = None if score.interval is None else dataclasses.asdict(score.interval)
    result |= {"per_person": dict(score.per_person), "per_prompt": dict(score.per_prompt)}
    if score.per_category:
        result["per_category"] = {name: dataclasses.asdict(v) for name, v in score.per_category.items()}
    return result | ({"why": score.why} if score.why else {})
