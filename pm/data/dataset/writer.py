"""The files of a dataset, and what is finished of it.

While it runs, a preprocess keeps its settings and a note for each finished shard in `_work/`; `dataset.json`, written
last, makes it a dataset. Every file appears under its name only when it is whole.
"""

import contextlib
import hashlib
import json
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pm import files
from pm.data.dataset.provenance import provenance_totals
from pm.data.records import (
    FORGET,
    INDEX_FILE,
    INDEX_SCHEMA,
    META_FILE,
    REDO,
    REJECTS_FILE,
    REJECTS_SCHEMA,
    SOURCES_FILE,
    Photo,
    dataset_table,
    rejects_table,
)
from pm.errors import DataError, reason
from pm.files import write_json
from pm.hub.card import CARD, dataset_card

WORK, SETTINGS_FILE, PREVIEW_FILE, BROWSE_FILE = "_work", "settings.json", "preview.png", "browse.html"
_ROW_GROUP_BYTES = 2**20
_OURS = (META_FILE, CARD, INDEX_FILE, REJECTS_FILE, SOURCES_FILE, PREVIEW_FILE, BROWSE_FILE, WORK, FORGET, REDO)


def is_our_name(name: str) -> bool:
    """Whether something in the output folder is the dataset's own."""
    return name in _OURS or (name.startswith("part-") and name.endswith(".parquet"))


def settings_hash(settings: Mapping[str, Any]) -> str:
    """16 hex digits of all settings that the dataset's content depends on."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def finished_shards(output: str | Path) -> set[int]:
    """Numbers of the shards that an earlier run finished."""
    return {int(p.stem.split("-")[1]) for p in Path(output, WORK).glob("shard-*.json")}


def shard_note(output: str | Path, number: int) -> dict[str, Any] | None:
    """What `write_shard` noted about a finished shard."""
    path = _note(Path(output), number)
    return json.loads(path.read_text()) if path.exists() else None


def write_shard(
    photos: Sequence[Photo], output: str | Path, stages: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, Any]:
    """Write one shard's kept photos, then its rejects, then the note that it is finished.

    Args:
        stages: what is known about each stage's work on the shard ("seconds", "run"), for the note.

    Returns:
        The note: {"shard", "found", "kept", "identities", "stages"}; `stages` as JSON text.
    """
    output, number = Path(output), photos[0].shard
    kept = [p for p in photos if not p.reject]
    part = output / f"part-{number:05d}.parquet"
    if kept:
        write_table(dataset_table(kept), part)
    else:
        part.unlink(missing_ok=True)
    rejects = rejects_table([p for p in photos if p.reject])
    write_table(rejects, output / WORK / f"rejects-{number:05d}.parquet")
    people = len({p.identity for p in kept})
    note: dict[str, Any] = {"shard": number, "found": len(photos), "kept": len(kept), "identities": people}
    note |= {"stages": json.dumps(stages or {})}
    write_json(_note(output, number), note)
    return note


def _note(output: Path, number: int) -> Path:
    return output / WORK / f"shard-{number:05d}.json"


def finish(output: str | Path, stages: Sequence[str], meta: Mapping[str, Any]) -> dict[str, Any]:
    """Write rejects, index and, last, `dataset.json`; returns what that says.

    Args:
        stages: names in order, for the counts.
        meta: what else `dataset.json` holds.
    """
    output = Path(output)
    files.remove_leftovers(output, is_our_name)  # of a run that was killed
    totals: Counter[str] = Counter()
    seconds: dict[str, float] = defaultdict(float)
    runs: dict[str, Counter[str]] = {}
    for path in sorted(Path(output, WORK).glob("shard-*.json")):
        note = json.loads(path.read_text())
        totals.update({name: note[name] for name in ("found", "kept", "identities")})
        for stage, entry in json.loads(note["stages"]).items():
            seconds[stage] += entry["seconds"]
            runs.setdefault(entry["run"], Counter())[stage] += note["found"]
    reasons = _join_rejects(output)
    parts = sorted(output.glob("part-*.parquet"))
    rows, _ = write_index(parts, output / INDEX_FILE)
    rejected = sum(reasons.values())
    if totals["found"] != rows + rejected:
        raise DataError(
            f"{output} lost photos: {totals['found']} found, {rows} kept, {rejected} rejected; "
            "preprocess again with overwrite=true"
        )
    counts: dict[str, Any] = {name: totals[name] for name in ("found", "kept", "identities")}
    counts["stages"] = stage_counts(totals["found"], reasons, stages, seconds)
    by_run = {run: dict(done) for run, done in sorted(runs.items())}
    whole = {**meta, "counts": counts, "runs": by_run, "origins": provenance_totals(parts)}
    files.write_text(output / CARD, dataset_card(whole, name=output.absolute().name))
    if (output / WORK / SOURCES_FILE).exists():
        (output / WORK / SOURCES_FILE).replace(output / SOURCES_FILE)
    write_json(output / META_FILE, whole, indent=1)
    shutil.rmtree(output / WORK, ignore_errors=True)
    return whole


def stage_counts(
    found: int, reasons: Mapping[tuple[str, str], int], stages: Sequence[str], seconds: Mapping[str, float]
) -> dict[str, dict[str, Any]]:
    """For each stage how many photos came in, how many it kept, and how many it rejected for what reason.

    Args:
        reasons: number of rejects by (stage, reason).
        seconds: what the stage's workers took for all photos together, where it was measured.
    """
    counts: dict[str, dict[str, Any]] = {}
    left = found
    for stage in stages:
        dropped = {reason: n for (where, reason), n in sorted(reasons.items()) if where == stage}
        kept = left - sum(dropped.values())
        counts[stage] = {"in": left, "kept": kept, "rejected": dropped}
        if stage in seconds:
            rate = left / seconds[stage] if seconds[stage] > 0 else 0.0
            counts[stage] |= {"worker_seconds": round(seconds[stage], 3), "photos_per_worker_second": round(rate, 2)}
        left = kept
    return counts


def _join_rejects(output: Path) -> Counter[tuple[str, str]]:
    """One file of all shards' rejects, a shard at a time; their number by stage and reason."""
    reasons: Counter[tuple[str, str]] = Counter()
    with _whole_parquet(output / REJECTS_FILE, REJECTS_SCHEMA) as writer:
        for path in sorted(Path(output, WORK).glob("rejects-*.parquet")):
            table = pq.read_table(path)
            reasons.update(zip(*(table.column(name).to_pylist() for name in ("stage", "reason")), strict=True))
            writer.write_table(table)
    return reasons


def write_index(parts: Sequence[Path], target: Path) -> tuple[int, int]:
    """Where each photo of the part files is, sorted by person and photo; how many photos and people there are.

    Parts of a dataset that grew overlap; what is in order is not held in memory.
    """
    total, people = 0, 0
    last, ordered = ("", ""), True
    with _whole_parquet(target, INDEX_SCHEMA) as writer:
        for path in parts:
            file, rows = pq.ParquetFile(path), []
            for group in range(file.num_row_groups):
                names = file.read_row_group(group, columns=["identity", "photo"]).to_pylist()
                rows += [{**name, "file": path.name, "row_group": group, "row": i} for i, name in enumerate(names)]
            writer.write_table(pa.Table.from_pylist(rows, schema=INDEX_SCHEMA))
            total, people = total + len(rows), people + len({row["identity"] for row in rows})
            for row in rows:
                ordered, last = ordered and last <= (key := (row["identity"], row["photo"])), key
    if not ordered:
        table = pq.read_table(target).sort_by([("identity", "ascending"), ("photo", "ascending")])
        with _whole_parquet(target, INDEX_SCHEMA) as writer:
            writer.write_table(table)
    return total, people


def whole_part(path: Path) -> pa.Table:
    """A part file; damaged bytes would get a new checksum, and never be noticed again."""
    try:
        return pq.read_table(path, page_checksum_verification=True)
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            f"{path} is damaged ({reason(error)}), nothing was removed; preprocess again with overwrite=true"
        ) from error


@contextlib.contextmanager
def _whole_parquet(path: Path, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    with (
        files.replace_file(path) as temporary,
        pq.ParquetWriter(temporary, schema, compression="none", use_dictionary=False) as writer,
    ):
        yield writer


def write_table(table: pa.Table, path: Path) -> None:
    """PNGs and float16 numbers do not compress; without compression a row group is read at the disk's speed."""
    rows = max(1, round(_ROW_GROUP_BYTES / max(1, table.nbytes / max(1, table.num_rows))))
    with files.replace_file(path) as temporary:
        pq.write_table(
            table,
            temporary,
            row_group_size=rows,
            compression="none",
            use_dictionary=False,
            write_statistics=False,
            write_page_checksum=True,
        )
