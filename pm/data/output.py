"""The output folder: whose it is, what is finished, and the files that are written in it.

While it runs, a preprocess keeps its settings and a note for each finished shard in `_work/`; `dataset.json`, written
last, makes it a dataset. Every file appears under its name only when it is whole.
"""

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pm.data.records import (
    INDEX_FILE,
    INDEX_SCHEMA,
    META_FILE,
    REJECTS_FILE,
    REJECTS_SCHEMA,
    Photo,
    dataset_table,
    read_meta,
    rejects_table,
)
from pm.errors import DataError

WORK, SETTINGS_FILE, PREVIEW_FILE = "_work", "settings.json", "preview.png"
_ROW_GROUP_BYTES = 2**20
_OURS = (META_FILE, INDEX_FILE, REJECTS_FILE, PREVIEW_FILE, WORK)


def open_output(output: str | Path, settings: Mapping[str, Any], overwrite: bool) -> bool:
    """Make the folder ready for these settings; True if it already holds the finished dataset.

    Raises:
        DataError: it holds a dataset made with other settings (named in the message), or something else.
    """
    output = Path(output)
    if overwrite:
        _clear(output)
    if (output / META_FILE).exists():
        _same_settings(read_meta(output)["settings"], settings, output, "holds a dataset")
        shutil.rmtree(output / WORK, ignore_errors=True)
        return True
    started = output / WORK / SETTINGS_FILE
    if started.exists():
        _same_settings(json.loads(started.read_text()), settings, output, "holds an unfinished dataset")
        return False
    strange = sorted(p.name for p in output.iterdir() if not _is_ours(p)) if output.is_dir() else []
    if strange or (output.exists() and not output.is_dir()):
        raise DataError(
            f"output={output} holds other files ({', '.join(strange[:3]) or 'it is one'}); choose another folder"
        )
    (output / WORK).mkdir(parents=True, exist_ok=True)
    write_whole(started, json.dumps(settings, indent=1).encode())
    return False


def settings_hash(settings: Mapping[str, Any]) -> str:
    """16 hex digits of all settings that the dataset's content depends on."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def write_whole(path: Path, data: bytes) -> None:
    """Write under a temporary name, then rename."""
    partial = path.with_name(f"{path.name}.tmp{os.getpid()}")
    partial.write_bytes(data)
    partial.replace(path)


def finished_shards(output: str | Path) -> set[int]:
    """Numbers of the shards that an earlier run finished."""
    return {int(p.stem.split("-")[1]) for p in Path(output, WORK).glob("shard-*.json")}


def write_shard(photos: Sequence[Photo], output: str | Path) -> dict[str, int]:
    """Write one shard's kept photos, then its rejects, then the note that it is finished.

    Returns:
        {"shard", "found", "kept"}.
    """
    output, number = Path(output), photos[0].shard
    kept = [p for p in photos if not p.reject]
    part = output / f"part-{number:05d}.parquet"
    if kept:
        _write_table(dataset_table(kept), part)
    else:
        part.unlink(missing_ok=True)
    rejects = rejects_table([p for p in photos if p.reject])
    _write_table(rejects, output / WORK / f"rejects-{number:05d}.parquet")
    note = {"shard": number, "found": len(photos), "kept": len(kept)}
    write_whole(output / WORK / f"shard-{number:05d}.json", json.dumps(note).encode())
    return note


def finish(output: str | Path, stages: Sequence[str], meta: Mapping[str, Any]) -> dict[str, Any]:
    """Write rejects, index and, last, `dataset.json`; returns what that says.

    Args:
        stages: names in order, for the counts.
        meta: what else `dataset.json` holds.
    """
    output = Path(output)
    for leftover in output.glob("part-*.tmp*"):  # of a run that was killed
        leftover.unlink()
    notes = [json.loads(p.read_text()) for p in sorted(Path(output, WORK).glob("shard-*.json"))]
    tables = [pq.read_table(p) for p in sorted(Path(output, WORK).glob("rejects-*.parquet"))]
    rejects = pa.concat_tables(tables) if tables else REJECTS_SCHEMA.empty_table()
    index = _index(output)
    _write_table(rejects, output / REJECTS_FILE)
    _write_table(index, output / INDEX_FILE)
    found = sum(note["found"] for note in notes)
    if found != index.num_rows + rejects.num_rows:
        raise DataError(
            f"{output} lost photos: {found} found, {index.num_rows} kept, {rejects.num_rows} rejected; "
            "preprocess again with overwrite=true"
        )
    counts = stage_counts(found, rejects, stages)
    identities = len(set(index.column("identity").to_pylist()))
    whole = {**meta, "counts": {"found": found, "kept": index.num_rows, "identities": identities, "stages": counts}}
    write_whole(output / META_FILE, json.dumps(whole, indent=1).encode())
    shutil.rmtree(output / WORK, ignore_errors=True)
    return whole


def stage_counts(found: int, rejects: pa.Table, stages: Sequence[str]) -> dict[str, dict[str, Any]]:
    """For each stage how many photos came in, how many it kept, and how many it rejected for what reason."""
    reasons = Counter(zip(rejects.column("stage").to_pylist(), rejects.column("reason").to_pylist(), strict=True))
    counts, left = {}, found
    for stage in stages:
        dropped = {reason: n for (where, reason), n in sorted(reasons.items()) if where == stage}
        counts[stage] = {"in": left, "kept": left - sum(dropped.values()), "rejected": dropped}
        left = counts[stage]["kept"]
    return counts


def _index(output: Path) -> pa.Table:
    rows = []
    for path in sorted(output.glob("part-*.parquet")):
        file = pq.ParquetFile(path)
        for group in range(file.num_row_groups):
            names = file.read_row_group(group, columns=["identity", "photo"]).to_pylist()
            rows += [{**name, "file": path.name, "row_group": group, "row": row} for row, name in enumerate(names)]
    return pa.Table.from_pylist(rows, schema=INDEX_SCHEMA)


def _write_table(table: pa.Table, path: Path) -> None:
    """PNGs and float16 numbers do not compress; without compression a row group is read at the disk's speed."""
    rows = max(1, round(_ROW_GROUP_BYTES / max(1, table.nbytes / max(1, table.num_rows))))
    partial = path.with_name(f"{path.name}.tmp{os.getpid()}")
    pq.write_table(
        table, partial, row_group_size=rows, compression="none", use_dictionary=False, write_statistics=False
    )
    partial.replace(path)


def _clear(output: Path) -> None:
    """Remove a dataset's own files and nothing else."""
    for path in output.iterdir() if output.is_dir() else ():
        if _is_ours(path):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _is_ours(path: Path) -> bool:
    part = path.name.startswith("part-") and ".parquet" in path.name
    return part or path.name in _OURS or any(path.name.startswith(f"{name}.tmp") for name in _OURS)


def _same_settings(old: Mapping[str, Any], new: Mapping[str, Any], output: Path, what: str) -> None:
    before, after = _flat(old), _flat(new)
    different = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    if different:
        changes = ", ".join(
            f"{key}: {before.get(key)!r} there, {after.get(key)!r} now" for key in sorted(different)[:6]
        )
        raise DataError(
            f"output={output} {what} made with other settings ({changes}); "
            "use overwrite=true to replace it, or another output folder"
        )


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        name = f"{prefix}{key}"
        flat |= _flat(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return flat
