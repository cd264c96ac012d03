"""`edits.yaml` beside a dataset: the corrections by hand that are in force, and those that wait to be applied."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pm.data.edits.effects import KINDS
from pm.data.records import EDITS_FILE
from pm.errors import DataError, reason
from pm.files import write_text

_HEAD = "# Corrections by hand (photomaker edit). Those under `applied` are part of the dataset; `pending` ones wait.\n"


@dataclass(frozen=True)
class Edits:
    """In the order in which they were made; see `pm.data.edits.effects` for what they look like."""

    applied: tuple[Mapping[str, Any], ...] = ()
    pending: tuple[Mapping[str, Any], ...] = ()


def read_edits(dataset: str | Path) -> Edits:
    """The edits of a dataset; none where there is no file.

    Raises:
        DataError: the file is damaged.
    """
    path = Path(dataset) / EDITS_FILE
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except FileNotFoundError:
        return Edits()
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{path.absolute()} cannot be read ({reason(error)})") from error
    if not isinstance(content, dict) or set(content) - {"applied", "pending"}:
        raise DataError(f"{path.absolute()} must have the lists applied and pending")
    return Edits(*(_checked(content.get(name) or [], f"{path.absolute()}, {name}") for name in ("applied", "pending")))


def write_edits(dataset: str | Path, edits: Edits, *, empty: bool = False) -> None:
    """Write the file, or remove it where there is nothing to say (`empty`: write that, too)."""
    path = Path(dataset) / EDITS_FILE
    if not (edits.applied or edits.pending or empty):
        path.unlink(missing_ok=True)
        return
    content = {"applied": [dict(edit) for edit in edits.applied], "pending": [dict(edit) for edit in edits.pending]}
    write_text(path, _HEAD + yaml.safe_dump(content, allow_unicode=True, sort_keys=False, width=120))


def check_edit(edit: Any, where: str) -> None:
    """Is this an edit?

    Raises:
        DataError: it is not; says where.
    """
    if not isinstance(edit, Mapping) or edit.get("edit") not in KINDS:
        raise DataError(f"{where}: {edit!r} is not an edit; kinds are {', '.join(KINDS)}")
    needed, possible = KINDS[edit["edit"]]
    for name in needed:
        value = edit.get(name)
        several = name == "photos"
        good = isinstance(value, Sequence) and not isinstance(value, str) if several else isinstance(value, str)
        if not value or not good:
            raise DataError(f"{where}: {edit['edit']} needs {name}, {'a list of names' if several else 'a text'}")
    unknown = set(edit) - {"edit", "when", *needed, *possible}
    if unknown:
        raise DataError(f"{where}: {edit['edit']} has no {', '.join(sorted(map(str, unknown)))}")
    if edit["edit"] == "caption" and not (edit.get("caption") or edit.get("class_word")):
        raise DataError(f"{where}: caption needs caption or class_word")


def _checked(edits: Any, where: str) -> tuple[Mapping[str, Any], ...]:
    if not isinstance(edits, list):
        raise DataError(f"{where} must be a list of edits")
    for number, edit in enumerate(edits, 1):
        check_edit(edit, f"{where} {number}")
    return tuple(edits)
