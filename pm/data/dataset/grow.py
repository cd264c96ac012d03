"""A dataset that grows: the people of whom something changed are made again beside it, then take their places.

They are made in `_redo/` like a dataset of their own. What is theirs in the old files is left out of new ones, which
are made in `_redo/merged/`; then all of that takes the place of the old files at once, see `pm.data.dataset.swap`. The
rows, their order, the rejects and the counts are those of a dataset that was made of the present photos at once.
"""

import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pm.data.dataset.output import Opened, open_output, settings_there
from pm.data.dataset.provenance import provenance_totals
from pm.data.dataset.settings import changes
from pm.data.dataset.swap import settle, write_plan
from pm.data.dataset.writer import stage_counts, whole_part, write_index, write_table
from pm.data.records import FORGET, INDEX_FILE, META_FILE, REDO, REJECTS_FILE, REJECTS_SCHEMA, SOURCES_FILE, read_meta
from pm.files import write_json, write_text
from pm.hub.card import CARD, dataset_card

_MERGED = "merged"
_PART = re.compile(r"part-(\d+)(?:-r(\d+))?\.parquet")


def prepare_growth(output: str | Path, settings: Mapping[str, Any], state: str) -> Opened:
    """Make `_redo/` ready for the people of whom something changed.

    Args:
        output: a finished dataset, locked by the caller.
        settings: its settings, with the present photos.
        state: of the changes; half a growth for others is thrown away.
    """
    redo = Path(output) / REDO
    wanted = {**settings, "state": state}
    there = settings_there(redo)
    if there is not None and changes(there, wanted):
        shutil.rmtree(redo)
    return Opened(redo, open_output(redo, wanted, overwrite=False))


def merge_growth(output: str | Path, meta: Mapping[str, Any], people: Sequence[str], record: Mapping[str, int]) -> None:
    """Put what was made in `_redo/` in the place of these people's old rows.

    Args:
        output: the dataset's folder, locked by the caller.
        meta: what `dataset.json` is to say beside counts and what the old one notes.
        people: of whom something changed, those among them who are gone.
        record: numbers of what came and went, for `dataset.json`.

    Raises:
        DataError: a part file is damaged.
    """
    output = Path(output)
    redo = output / REDO
    merged, gone = redo / _MERGED, pa.array(people, pa.string())
    shutil.rmtree(merged, ignore_errors=True)
    merged.mkdir()
    old_parts = sorted(output.glob("part-*.parquet"))
    numbers = [found for path in old_parts if (found := _PART.fullmatch(path.name))]
    generation = 1 + max((int(found[2] or 0) for found in numbers), default=0)
    first = 1 + max((int(found[1]) for found in numbers), default=-1)
    touched = [path for path in old_parts if _without(path, gone, merged, generation)]
    for number, part in enumerate(sorted(redo.glob("part-*.parquet")), first):
        _link(part, merged / f"part-{number:05d}-r{generation}.parquet")
    parts = sorted({*old_parts, *merged.glob("part-*.parquet")} - set(touched), key=lambda path: path.name)
    kept, identities = write_index(parts, merged / INDEX_FILE)
    rejects = _rejects(output / REJECTS_FILE, redo / REJECTS_FILE, gone)
    write_table(rejects, merged / REJECTS_FILE)
    _link(redo / SOURCES_FILE, merged / SOURCES_FILE)
    whole = _meta(output, redo, meta, rejects, (kept, identities), record) | {"origins": provenance_totals(parts)}
    write_text(merged / CARD, dataset_card(whole, name=output.absolute().name))
    write_json(merged / META_FILE, whole, indent=1)
    shutil.rmtree(output / FORGET, ignore_errors=True)
    write_plan(merged, [path.name for path in touched])
    merged.rename(output / FORGET)  # the moment it is decided
    settle(output)
    shutil.rmtree(redo)


def _without(path: Path, gone: pa.Array, folder: Path, generation: int) -> bool:
    """Whether any of these people is in a part file; then the others are written into `folder`, under a new name."""
    identities = pq.read_table(path, columns=["identity"]).column("identity")
    theirs = pc.is_in(identities, value_set=gone)
    if not pc.any(theirs).as_py():
        return False
    stay = pc.invert(theirs)
    if pc.any(stay).as_py():
        name = f"{path.name.split('.')[0].split('-r')[0]}-r{generation}.parquet"
        write_table(whole_part(path).filter(stay), folder / name)
    return True


def _rejects(old: Path, new: Path, gone: pa.Array) -> pa.Table:
    before = pq.read_table(old)
    for column in REJECTS_SCHEMA:  # those that an older format lacks
        if column.name not in before.schema.names:
            before = before.append_column(column, pa.nulls(before.num_rows, column.type))
    before = before.filter(pc.invert(pc.is_in(before.column("identity"), value_set=gone))).select(REJECTS_SCHEMA.names)
    both = pa.concat_tables([before.cast(REJECTS_SCHEMA), pq.read_table(new).cast(REJECTS_SCHEMA)])
    return both.sort_by([("identity", "ascending"), ("photo", "ascending")])


def _meta(
    output: Path,
    redo: Path,
    meta: Mapping[str, Any],
    rejects: pa.Table,
    kept: tuple[int, int],
    record: Mapping[str, int],
) -> dict[str, Any]:
    old, new = read_meta(output), json.loads((redo / META_FILE).read_text())
    reasons = Counter(zip(*(rejects.column(name).to_pylist() for name in ("stage", "reason")), strict=True))
    stages = new["counts"]["stages"]
    seconds = {
        stage: sum(each["counts"]["stages"].get(stage, {}).get("worker_seconds", 0.0) for each in (old, new))
        for stage in stages
    }
    found = kept[0] + rejects.num_rows
    counts = {"found": found, "kept": kept[0], "identities": kept[1]}
    counts["stages"] = stage_counts(found, reasons, list(stages), {k: v for k, v in seconds.items() if v})
    noted: dict[str, Any] = {name: old[name] for name in ("created", "removals") if name in old}
    when = datetime.now(UTC).isoformat(timespec="seconds")
    grown = [*old.get("grown", ()), {"when": when, **record}]
    runs = {**old.get("runs", {}), **new["runs"]}
    return {**meta, **noted, "counts": counts, "runs": runs, "grown": grown}


def _link(source: Path, target: Path) -> None:
    """The same file under another name; a copy where the file system has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy(source, target)
