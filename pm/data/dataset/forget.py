"""Remove a person or a photo from a finished dataset, all at once or not at all.

The new files are made in `_forget/` first. A plan written there last is the moment the removal is decided: before it,
a killed run leaves the dataset as it was; after it, reading is refused until the same command has finished the rest.
Changed part files get new names, so that at no moment the index points into a file of another state.
"""

import hashlib
import re
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pm.data.dataset.output import locked
from pm.data.dataset.preview import write_preview
from pm.data.dataset.provenance import provenance_totals
from pm.data.dataset.swap import settle, write_plan
from pm.data.dataset.writer import (
    settings_hash,
    stage_counts,
    whole_part,
    write_index,
    write_table,
)
from pm.data.edits.effects import effects_of, mentions
from pm.data.edits.file import Edits, read_edits, write_edits
from pm.data.records import FORGET, INDEX_FILE, META_FILE, REDO, REJECTS_FILE, REJECTS_SCHEMA, SOURCES_FILE, read_meta
from pm.data.source.changes import digest_of, rows_of, write_sources
from pm.errors import DataError, counted
from pm.files import write_json, write_text
from pm.hub.card import CARD, dataset_card

_HASH = re.compile(r"[0-9a-f]{12,64}")


@dataclass(frozen=True)
class Removal:
    """What `forget` did."""

    photos: tuple[str, ...]  # removed, kept ones and rejected ones
    too_few: int  # photos of people who were left with fewer than `min_photos`, and so rejected
    record: dict[str, Any]  # what `dataset.json` says about it

    def text(self, output: str) -> str:
        """The summary for the terminal."""
        if not self.photos:
            return f"the interrupted removal from {Path(output).absolute()} is finished now"
        names = ", ".join(self.photos[:5]) + (", ..." if len(self.photos) > 5 else "")
        lines = [
            f"{counted(len(self.photos), 'photo')} removed from {Path(output).absolute()}, "
            f"and noted in {META_FILE}: {names}"
        ]
        if self.too_few:
            more = counted(self.too_few, "more photo is", "more photos are")
            lines.append(f"{more} now rejected: their people have too few left")
        lines.append(
            "not touched: the raw photos, which preprocess leaves out from now on; adapters trained before, which keep "
            "what they learnt (photomaker audit lists them)"
        )
        return "\n".join(lines)


def forget(output: str | Path, key: str) -> Removal:
    """Remove the person named `key`, or the photos whose sha256 is `key` (its first 12 digits or more are enough).

    Their rows go, rejected ones too; index, counts and picture are made again; `dataset.json` notes when and
    how many, and of a person only the hash of the name.

    Raises:
        DataError: no finished dataset, nothing that fits, or another process is working on it.
    """
    output = Path(output).absolute()
    if not (output / META_FILE).exists():
        raise DataError(
            f"no dataset at {output} ({META_FILE} is missing), so nobody can be removed from it; give the folder that "
            "photomaker preprocess wrote"
        )
    read_meta(output, removing=True)
    with locked(output):
        interrupted = settle(output)
        shutil.rmtree(output / REDO, ignore_errors=True)  # half a new dataset with everybody in it
        meta = read_meta(output)
        wanted, hashes = _matcher(key)
        rejects = pq.read_table(output / REJECTS_FILE)
        gone = [row["photo"] for row in rejects.to_pylist() if wanted(row)]
        changed = _changed_parts(output, wanted)
        gone += [row["photo"] for rows in changed.values() for row in rows if wanted(row)]
        if len(hashes) > 1:
            raise DataError(f"{key} begins {len(hashes)} photo hashes of {output}; give more digits")
        if not gone:
            if interrupted:
                return Removal((), 0, meta["removals"][-1])
            raise DataError(f"dataset {output} has no person and no photo hash {key!r}; see {INDEX_FILE} for the names")
        done = _remove(output, meta, key, wanted, rejects, changed, sorted(gone))
    if root := meta.get("config", {}).get("dataset", {}).get("root"):
        write_preview(output, root)
    return done


def _matcher(key: str) -> tuple[Callable[[dict[str, Any]], bool], set[str]]:
    """Tells whether a row is meant; and the hashes that `key` turned out to be the beginning of."""
    digits = key.lower() if _HASH.fullmatch(key.lower()) else None
    hashes: set[str] = set()

    def wanted(row: dict[str, Any]) -> bool:
        if row["identity"] == key:
            return True
        sha256 = row.get("sha256") or ""
        if digits is None or not sha256.startswith(digits):
            return False
        hashes.add(sha256)
        return True

    return wanted, hashes


def _changed_parts(output: Path, wanted: Callable[[dict[str, Any]], bool]) -> dict[Path, list[dict[str, Any]]]:
    """The part files with a row to remove, and who is in them; reads names and hashes of all, one file at a time."""
    found = {}
    for path in sorted(output.glob("part-*.parquet")):
        file = pq.ParquetFile(path)
        names = [n for n in ("identity", "photo", "sha256", "source", "licence") if n in file.schema_arrow.names]
        rows = file.read(columns=names).to_pylist()
        if any(wanted(row) for row in rows):
            found[path] = rows
    return found


def _remove(
    output: Path,
    meta: dict[str, Any],
    key: str,
    wanted: Callable[[dict[str, Any]], bool],
    rejects: pa.Table,
    changed: dict[Path, list[dict[str, Any]]],
    gone: list[str],
) -> Removal:
    least, stages = meta.get("settings", {}).get("min_photos", 1), meta["counts"]["stages"]
    new = output / FORGET
    new.mkdir()
    extra: list[dict[str, Any]] = []
    generation = len(meta.get("removals", ())) + 1
    for path, rows in changed.items():
        left = Counter(row["identity"] for row in rows if not wanted(row))
        few = [row for row in rows if not wanted(row) and left[row["identity"]] < least]
        why = {"stage": list(stages)[-1], "reason": "too_few_photos", "threshold": float(least)}
        extra += [{**row, **why, "value": float(left[row["identity"]])} for row in few]
        stay = [not wanted(row) and left[row["identity"]] >= least for row in rows]
        if any(stay):
            name = f"{path.name.split('.')[0].split('-r')[0]}-r{generation}.parquet"
            write_table(whole_part(path).filter(pa.array(stay)), new / name)
    kept_rejects = [row for row in rejects.to_pylist() if not wanted(row)]
    table = pa.Table.from_pylist([*kept_rejects, *extra], schema=REJECTS_SCHEMA)
    write_table(table, new / REJECTS_FILE)
    parts = sorted({*output.glob("part-*.parquet"), *new.glob("part-*.parquet")} - set(changed), key=lambda p: p.name)
    kept, people = write_index(parts, new / INDEX_FILE)
    what = "identity" if any(row["identity"] == key for rows in changed.values() for row in rows) else "photo"
    what = "identity" if any(row["identity"] == key for row in rejects.to_pylist()) else what
    digest = _sha256(key) if what == "identity" else key.lower()
    when = datetime.now(UTC).isoformat(timespec="seconds")
    record: dict[str, Any] = {"when": when, "what": what, "sha256": digest, "photos": len(gone), "too_few": len(extra)}
    counts = _counts(stages, table, kept, people)
    new_meta = {**meta, "counts": counts, "origins": provenance_totals(parts)}
    if what == "identity":
        record |= _elsewhere(output, key, {row["photo"]: row for rows in changed.values() for row in rows}, rejects)
    new_meta["removals"] = [*meta.get("removals", ()), record]
    new_meta |= _sources(output, new, new_meta, key, set(gone))
    write_json(new / META_FILE, new_meta, indent=1)
    write_text(new / CARD, dataset_card(new_meta, name=output.absolute().name))
    write_plan(new, [path.name for path in changed])
    settle(output)
    return Removal(tuple(gone), len(extra), record)


def _elsewhere(output: Path, key: str, rows: Mapping[str, Any], rejects: pa.Table) -> dict[str, list[str]]:
    """Hashes of what is the person's by hand alone: the names of folders, and photos in those of others."""
    effects = effects_of(read_edits(output).applied)
    found = {
        "folders": sorted(_sha256(folder) for folder, who in effects.people.items() if who == key),
        "contents": sorted(
            row["sha256"]
            for row in (*rows.values(), *rejects.to_pylist())
            if row["identity"] == key and row["photo"] in effects.photos and row.get("sha256")
        ),
    }
    return {name: hashes for name, hashes in found.items() if hashes}


def _sources(output: Path, new: Path, meta: dict[str, Any], key: str, gone: set[str]) -> dict[str, Any]:
    """Without them: what the dataset was made of, and the edits; what `dataset.json` says of it."""
    edits = read_edits(output)
    left = Edits(*(tuple(e for e in some if not mentions(e, key, gone)) for some in (edits.applied, edits.pending)))
    if left != edits:
        write_edits(new, left, empty=True)
    if not (output / SOURCES_FILE).exists():
        return {}
    rows = rows_of(pq.read_table(output / SOURCES_FILE))
    rows = [row for row in rows if row[0] != key and row[1] not in gone]
    write_sources(iter(rows), new / SOURCES_FILE)
    settings = {**meta["settings"], "photos": digest_of(rows)}
    return {"settings": settings, "settings_hash": settings_hash(settings)}


def _sha256(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def _counts(stages: dict[str, Any], rejects: pa.Table, kept: int, people: int) -> dict[str, Any]:
    """The counts of what is left; how long the stages took stays as it was measured."""
    reasons = Counter(zip(*(rejects.column(name).to_pylist() for name in ("stage", "reason")), strict=True))
    found = kept + rejects.num_rows
    new = stage_counts(found, reasons, list(stages), {})
    measured = ("worker_seconds", "photos_per_worker_second")
    for name, counts in new.items():
        counts.update({key: stages[name][key] for key in measured if key in stages[name]})
    return {"found": found, "kept": kept, "identities": people, "stages": new}
