"""Evaluations: their tables, and the pictures behind each value."""

import json
from pathlib import PurePosixPath
from typing import Any

from pm.catalog.root import Root
from pm.errors import DataError

REPORT, PAGE, BLIND, PICTURES = "report.json", "report.html", "blind.html", "pictures"
_HEAD = ("head", "percent", "higher_is_better")
_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


def reports(root: Root) -> list[dict[str, Any]]:
    """All evaluations below a place, newest first: {"name", "changed", "rows", "partial", "page", "blind"}."""
    found = []
    for entry in root.find((REPORT,)):
        name = PurePosixPath(entry.name).parent.as_posix()
        try:
            content = _content(root, name)
        except DataError:
            continue  # being written, or another program's
        files = {PurePosixPath(each.name).name for each in root.entries(name)}
        about = {"rows": [row["name"] for row in _rows(content)], "partial": bool(content.get("partial"))}
        pages = {"page": PAGE in files, "blind": BLIND in files}
        found.append({"name": name, "changed": entry.changed} | about | pages)
    return sorted(found, key=lambda report: -report["changed"])


def report(root: Root, name: str) -> dict[str, Any]:
    """One evaluation as a table, with the values of each person and prompt.

    Returns:
        {"name", "partial", "metrics": {name: {"head", "percent", "higher_is_better"}}, "rows": [{"name", "key", "kind",
        "values": {metric: {"mean", "low", "high"}}, "people": {metric: {person: value}}, "prompts": likewise,
        "seconds_per_image"}]}; "kind" is "floor", "ceiling" or "row".

    Raises:
        DataError: there is none of this name.
    """
    content = _content(root, name)
    heads = {key: _part(column, _HEAD) for key, column in content.get("metrics", {}).items()}
    framed = {id(content.get(kind)): kind for kind in ("floor", "ceiling")}
    rows = [
        {
            "name": row["name"],
            "key": row.get("key"),
            "kind": framed.get(id(row), "row"),
            "values": {metric: _value(row, metric) for metric in heads if row.get(metric) is not None},
            "people": _details(row, "per_person"),
            "prompts": _details(row, "per_prompt"),
            "seconds_per_image": row.get("seconds_per_image"),
        }
        for row in _rows(content)
    ]
    protocol = {key: value for key, value in content.get("protocol", {}).items() if not isinstance(value, dict)}
    about = {"partial": bool(content.get("partial")), "protocol": protocol}
    return {"name": name, "metrics": heads, "rows": rows} | about


def pictures(root: Root, name: str, key: str) -> dict[str, list[str]]:
    """Files of one row's pictures by person, to be read below the evaluation's folder.

    Raises:
        DataError: there is no such evaluation or row.
    """
    content = _content(root, name)
    if key not in {row.get("key") for row in _rows(content)}:
        raise DataError(f"{name} has no row {key[:80]!r}")
    people = {person for row in _rows(content) for of in _details(row, "per_person").values() for person in of}
    found = {person: root.entries(f"{name}/{PICTURES}/{key}/{person}") for person in sorted(people)}
    return {
        person: [entry.name.removeprefix(f"{name}/") for entry in entries if entry.name.lower().endswith(_SUFFIXES)]
        for person, entries in found.items()
    }


def _content(root: Root, name: str) -> dict[str, Any]:
    place = f"{name}/{REPORT}"
    if root.stat(place) is None:
        raise DataError(f"no evaluation {name!r} in {root.place}")
    try:
        content = json.loads(root.read(place))
    except ValueError as error:
        raise DataError(f"{place} is damaged ({error})") from None
    if not isinstance(content, dict) or "rows" not in content:
        raise DataError(f"{place} is no report of evaluate")
    return content


def _rows(content: dict[str, Any]) -> list[dict[str, Any]]:
    """Floor, methods and ceiling, in the order of the table."""
    framed = [content.get("floor"), *content["rows"], content.get("ceiling")]
    return [row for row in framed if isinstance(row, dict) and "name" in row]


def _value(row: dict[str, Any], metric: str) -> dict[str, float]:
    low, high = row.get("interval_95", {}).get(metric, (None, None))
    return {"mean": row[metric], "low": low, "high": high}


def _details(row: dict[str, Any], which: str) -> dict[str, dict[str, float]]:
    return {metric: score.get(which) or {} for metric, score in (row.get("metrics") or {}).items()}


def _part(values: dict[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: values.get(key) for key in keys}
