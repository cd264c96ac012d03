"""Corrections by hand, as plain functions: propose one, look at what waits, take it back, apply all. For programs, too.

What is proposed waits in `edits.yaml` and changes nothing. Applying runs the dataset's own preprocess again with the
edits in force, which does the people concerned again. They are part of the dataset from then on, however it grows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pm.config import from_mapping
from pm.data.captioning.words import words_in
from pm.data.config import PreprocessConfig
from pm.data.dataset.forget import forget
from pm.data.dataset.output import locked
from pm.data.edits.effects import Edit
from pm.data.edits.file import Edits, check_edit, read_edits, write_edits
from pm.data.records import INDEX_FILE, META_FILE, REJECTS_FILE, read_meta
from pm.data.run.build import Report, build
from pm.errors import DataError, PmError
from pm.model.prompt import mark

# Reasons of stages that only judge; after the others there is nothing to go on with.
KEEPABLE = ("by_hand", "near_duplicate", "too_small", "other_person", "no_common_person")


@dataclass(frozen=True)
class Applied:
    """What `apply` did."""

    report: Report  # of preprocess
    edits: int  # that came into force
    forgotten: tuple[str, ...]  # who was removed

    def text(self, dataset: str) -> str:
        """The summary for the terminal."""
        lines = [f"{self.edits} edits applied", self.report.text(dataset)]
        return "\n".join([*lines, *(f"removed: {who}" for who in self.forgotten)])


def propose(dataset: str | Path, edit: Edit) -> Edits:
    """Add an edit (`pm.data.edits.effects` says what they look like) to those that wait.

    Returns:
        all edits, the new one last.

    Raises:
        DataError: no finished dataset, no such photo or person, or the edit cannot be.
        LockedError: a preprocess is working on it.
    """
    check_edit(edit, "this edit")
    output = Path(dataset)
    _require_finished(output)
    with locked(output):
        _check(output, edit)
        there = read_edits(output)
        stamped = {**edit, "when": datetime.now(UTC).isoformat(timespec="seconds")}
        new = replace(there, pending=(*there.pending, stamped))
        write_edits(output, new)
        return new


def undo(dataset: str | Path, number: int = 1) -> tuple[Edit, ...]:
    """Take back the last `number` of the edits that wait; returns them.

    Raises:
        DataError: not so many wait.
    """
    output = Path(dataset)
    _require_finished(output)
    with locked(output):
        there = read_edits(output)
        if not 1 <= number <= len(there.pending):
            raise DataError(
                f"{len(there.pending)} edits of {output} wait, so {number} cannot be undone; what is applied is taken "
                "back by an edit of its own (reset)"
            )
        write_edits(output, replace(there, pending=there.pending[:-number]))
        return there.pending[-number:]


def apply(dataset: str | Path) -> Applied:
    """Put the edits that wait into force; the same call again goes on where a killed one stopped.

    Raises:
        DataError: nothing waits; or what `build` raises, and then they still wait.
    """
    output = Path(dataset).absolute()
    meta = _require_finished(output)
    there = read_edits(output)
    now = tuple(edit for edit in there.pending if edit["edit"] != "forget")
    later = tuple(edit for edit in there.pending if edit["edit"] == "forget")
    with locked(output):
        write_edits(output, Edits((*there.applied, *now), later))
    try:
        report = build(_config(output, meta))
    except PmError:
        if not (output / "_redo").exists():  # nothing has been done yet
            write_edits(output, there)
        raise
    for edit in later:  # after the others: who was merged into them goes, too
        forget(output, edit["who"])
        left = read_edits(output)
        write_edits(output, replace(left, pending=tuple(e for e in left.pending if e["who"] != edit["who"])))
    return Applied(report, len(now) + len(later), tuple(edit["who"] for edit in later))


def in_words(edit: Edit) -> str:
    """One line."""
    said = {name: value for name, value in edit.items() if name not in ("edit", "when")}
    return f"{edit['edit']}: " + ", ".join(
        f"{name} {', '.join(value) if isinstance(value, Sequence) and not isinstance(value, str) else value}"
        for name, value in said.items()
    )


def _require_finished(output: Path) -> dict[str, Any]:
    if not (output / META_FILE).exists():
        raise DataError(f"no finished dataset at {output.absolute()} ({META_FILE} is missing); preprocess makes one")
    return read_meta(output)


def _config(output: Path, meta: dict[str, Any]) -> PreprocessConfig:
    """What the dataset was made with; it may have been moved since."""
    # Earlier versions knew of no consent.
    known = {"consent": "noted", "purpose": "training", **meta["config"]}
    return from_mapping(PreprocessConfig, {**known, "output": str(output), "overwrite": False})


def _check(output: Path, edit: Edit) -> None:
    """Is what the edit names in the dataset, and can it be?"""
    people, photos = _names(output)
    for name in ("photo", "photos", "person"):
        wanted = edit.get(name, ())
        known = people if name == "person" else photos
        for each in [wanted] if isinstance(wanted, str) else wanted:
            if each not in known:
                what = "person" if name == "person" else "photo"
                raise DataError(f"dataset {output} has no {what} {each!r}; photomaker browse shows what it has")
    if edit["edit"] == "forget" and edit["who"] not in people and len(edit["who"]) < 12:
        raise DataError(f"dataset {output} has no person {edit['who']!r}; a photo's sha256 has 12 digits or more")
    if edit["edit"] == "merge" and edit["person"] == edit["into"]:
        raise DataError(f"{edit['person']!r} cannot be merged into itself")
    if edit["edit"] in ("merge", "split") and (not edit["into"].strip() or "/" in edit["into"]):
        raise DataError(f"into={edit['into']!r} is no name of a person")
    if edit["edit"] == "keep" and (reason := photos[edit["photo"]]) and reason not in KEEPABLE:
        raise DataError(
            f"{edit['photo']} was left out as {reason}, which cannot be overruled; only {', '.join(KEEPABLE)} can"
        )
    if edit["edit"] == "caption" and edit.get("caption"):
        caption, word = edit["caption"], edit.get("class_word")
        if word:
            mark(caption, word)
        elif not words_in(caption):
            raise DataError(
                f"caption {caption!r} has no word for the person (man, woman, ...); write one, or class_word"
            )


def _names(output: Path) -> tuple[set[str], dict[str, str]]:
    """People, and photos with the reason for which they stayed out ("": they did not)."""
    kept = pq.read_table(output / INDEX_FILE, columns=["identity", "photo"]).to_pylist()
    out = pq.read_table(output / REJECTS_FILE, columns=["identity", "photo", "reason"]).to_pylist()
    photos = {row["photo"]: "" for row in kept} | {row["photo"]: row["reason"] for row in out}
    return {row["identity"] for row in (*kept, *out)}, photos
