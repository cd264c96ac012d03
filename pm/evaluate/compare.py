"""Reports of several runs in one table, where they asked the same of the same people."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pm.errors import ConfigError, DataError
from pm.evaluate.metrics.base import Model
from pm.evaluate.scores import ReportRow, Scored
from pm.evaluate.statistics import Interval
from pm.evaluate.tables import Column, main_table


def compare(places: Sequence[str]) -> str:
    """One table of the rows of all reports.

    Args:
        places: `report.json` files, or the folders that they are in.

    Raises:
        DataError: one is no report.
        ConfigError: they are of different protocols, or different models gave the values of a column.
    """
    files = [Path(p) / "report.json" if Path(p).is_dir() else Path(p) for p in places]
    reports = [_read(file) for file in files]
    for file, report in zip(files[1:], reports[1:], strict=True):
        for key in dict.fromkeys([*reports[0]["about"], *report["about"]]):  # the suite comes first
            one, other = reports[0]["about"].get(key), report["about"].get(key)
            if one != other:
                raise ConfigError(
                    f"{files[0]} has {key}={one} and {file} has {key}={other}; reports of different protocols are not "
                    "compared: evaluate both with the same suite and protocol"
                )
    shared = [name for name in reports[0]["metrics"] if all(name in report["metrics"] for report in reports)]
    if not shared:
        raise ConfigError(f"{', '.join(map(str, files))} have no metric in common")
    _check_settings(files, reports, shared)
    columns = {name: Column(**reports[0]["metrics"][name]) for name in shared}
    rows, seen = [], set[str]()
    for file, report in zip(files, reports, strict=True):
        for row in [report["floor"], *report["rows"], report["ceiling"]]:
            if row is None or (row["name"].endswith((" (floor)", " (ceiling)")) and row["name"] in seen):
                continue
            name = f"{row['name']} ({file.parent.name})" if row["name"] in seen else row["name"]
            seen.add(row["name"])
            rows.append(_row(row, name, shared))
    return main_table(rows, None, None, columns)


def _check_settings(files: Sequence[Path], reports: Sequence[dict[str, Any]], shared: Sequence[str]) -> None:
    """One column has values of one metric with the same settings; older reports do not say theirs."""
    for name in shared:
        first = reports[0].get("metric_settings", {}).get(name)
        for file, report in zip(files[1:], reports[1:], strict=True):
            other = report.get("metric_settings", {}).get(name)
            if first and other and first != other:
                key = next(k for k in {**first, **other} if first.get(k) != other.get(k))
                raise ConfigError(
                    f"metric {name} has {key}={first.get(key)} in {files[0]} and {key}={other.get(key)} in {file}, "
                    "which cannot be compared; measure both with the same settings"
                )


def _read(file: Path) -> dict[str, Any]:
    try:
        report: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        _ = report["about"]["suite"], report["rows"], report["metrics"], report["floor"], report["ceiling"]
        return report
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file.absolute()} is no report of evaluate ({type(error).__name__}: {error})") from error


def _row(row: dict[str, Any], name: str, metrics: Sequence[str]) -> ReportRow:
    scores = {}
    for metric in metrics:
        found = row["metrics"][metric]
        interval = None if found["interval"] is None else Interval(**found["interval"])
        model = None if found["model"] is None else Model(**found["model"])
        scores[metric] = Scored(interval, model, found["per_person"], found["per_prompt"], found.get("why", ""))
    return ReportRow(
        row["key"], name, scores, row["per_attribute"], lambda t, n: None, row["references"], row["about"],
        row["seconds_per_image"], row["seconds_to_personalise"], row["peak_gib"], row["made"], row["asked"],
    )  # fmt: skip
