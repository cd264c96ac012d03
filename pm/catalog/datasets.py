"""Datasets: what came in and what stayed, people with their photos, rejects with their reasons."""

import functools
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pm.catalog.root import Root
from pm.data.dataset.browse import funnel
from pm.data.dataset.preview import crop_and_person, raw_picture
from pm.data.records import INDEX_FILE, META_FILE, READABLE_VERSIONS, REJECTS_FILE
from pm.errors import DataError

_ABOUT = ("photo", "caption", "class_word", "class_rule", "source", "licence", "sha256")
_REJECT = ("identity", "photo", "stage", "reason", "value", "threshold", "detail", "source")
_SEARCHED = 200_000  # photos whose captions are searched; of larger datasets names alone
_SIDE = 512  # most pixels of a picture's side


def datasets(root: Root) -> list[dict[str, Any]]:
    """All datasets below a place, newest first: {"name", "people", "photos", "found", "changed", "problem"}."""
    found = []
    for entry in root.find((META_FILE,)):
        name = PurePosixPath(entry.name).parent.as_posix()
        try:
            meta = _meta(root, name)
        except DataError as error:
            found.append({"name": name, "problem": str(error), "changed": entry.changed})
            continue
        counts = meta["counts"]
        about = {"people": counts.get("identities"), "photos": counts.get("kept"), "found": counts.get("found")}
        found.append({"name": name, "changed": entry.changed, "problem": None} | about)
    return sorted(found, key=lambda dataset: -dataset["changed"])


def overview(root: Root, name: str) -> dict[str, Any]:
    """One dataset: its funnel by stage, why photos were rejected, and what it was made for.

    Raises:
        DataError: there is none of this name, or it cannot be read.
    """
    meta = _meta(root, name)
    rejects = Counter(zip(*(_rejects(root, name).column(key).to_pylist() for key in ("stage", "reason")), strict=True))
    stages = list(meta["counts"]["stages"])
    order = sorted(rejects, key=lambda key: (stages.index(key[0]) if key[0] in stages else len(stages), -rejects[key]))
    about = {key: meta.get(key) for key in ("resolution", "base", "licence", "created", "licences", "sources")}
    return {
        "name": name,
        "counts": {key: value for key, value in meta["counts"].items() if isinstance(value, int | float)},
        "funnel": funnel(meta["counts"]),
        "rejects": [{"stage": stage, "reason": reason, "count": rejects[stage, reason]} for stage, reason in order],
        "about": {key: value for key, value in about.items() if isinstance(value, str | int | float)},
    }


def people(root: Root, name: str, search: str = "", offset: int = 0, limit: int = 60) -> dict[str, Any]:
    """People of a dataset in its order.

    Args:
        root: where it is.
        name: of the dataset.
        search: only people whose name, a photo's name or a caption has this text, in any case.
        offset: how many to leave out.
        limit: how many at most.

    Returns:
        {"total", "people": [{"identity", "photos": how many, "cover": the number of a photo for `picture`}]}.

    Raises:
        DataError: as `overview`.
    """
    index = _index(root, name)
    names, firsts, counts = index.people
    wanted: Sequence[int] = range(len(names))
    if search.strip():
        hits = _matching(root, name, index, search.strip())
        wanted = [i for i in wanted if names[i] in hits]
    chosen = wanted[offset : offset + limit]
    shown = [{"identity": names[i], "photos": counts[i], "cover": firsts[i]} for i in chosen]
    return {"total": len(wanted), "people": shown}


def person(root: Root, name: str, identity: str) -> dict[str, Any]:
    """All photos of one person, with captions and where they came from; "number" is for `picture`.

    Raises:
        DataError: nobody of this name is in it.
    """
    index = _index(root, name)
    names, firsts, counts = index.people
    if identity not in names:
        raise DataError(f"dataset {name} has nobody named {identity[:80]!r}")
    at = names.index(identity)
    numbers = range(firsts[at], firsts[at] + counts[at])
    return {
        "identity": identity,
        "photos": [{"number": number} | _row(root, name, index, number, _ABOUT) for number in numbers],
    }


def picture(root: Root, name: str, number: int, kind: str = "person", side: int = 192) -> bytes:
    """A photo as the dataset has it, as a JPEG.

    Args:
        root: where it is.
        name: of the dataset.
        number: of the photo in the index.
        kind: "crop": the square around the face; "person": with all but the person dimmed.
        side: pixels.

    Raises:
        DataError: there is no such photo.
    """
    index = _index(root, name)
    if not 0 <= number < index.table.num_rows:
        raise DataError(f"dataset {name} has no photo {number}")
    row = _row(root, name, index, number, ("id_crop", "mask"))
    crop, dimmed = crop_and_person(row["id_crop"], row["mask"], min(max(side, 16), _SIDE))
    buffer = io.BytesIO()
    (crop if kind == "crop" else dimmed).save(buffer, "JPEG", quality=86)
    return buffer.getvalue()


def rejects(
    root: Root, name: str, reason: str = "", search: str = "", offset: int = 0, limit: int = 100
) -> dict[str, Any]:
    """Rejected photos: {"total", "photos": rows of `rejects.parquet`}.

    Args:
        root: where it is.
        name: of the dataset.
        reason: only those rejected for this; "number" of a row is for `rejected`.
        search: only those whose person or photo has this text.
        offset: how many to leave out.
        limit: how many at most.

    Raises:
        DataError: as `overview`.
    """
    table = _rejects(root, name)
    table = table.append_column("number", pa.array(range(table.num_rows), pa.int64()))
    if reason:
        table = table.filter(pc.equal(table.column("reason"), reason))
    if search.strip():
        parts = [_has(table.column(key), search.strip()) for key in ("identity", "photo")]
        table = table.filter(pc.or_(*parts))
    keys = [key for key in ("number", *_REJECT) if key in table.column_names]
    return {"total": table.num_rows, "photos": table.select(keys).slice(offset, limit).to_pylist()}


def rejected(root: Root, name: str, number: int, side: int = 192) -> bytes:
    """A rejected photo as it was found, as a JPEG; only where the raw photos, too, are below the root.

    Raises:
        DataError: there is no such photo, or it is not to be opened.
    """
    table = _rejects(root, name)
    place = _meta(root, name).get("config", {}).get("dataset", {}).get("root")
    if not 0 <= number < table.num_rows or not place or not root.local:
        raise DataError(f"the photo of reject {number} of {name} cannot be shown")
    row = table.slice(number, 1).to_pylist()[0]
    photos = Path(place).expanduser().absolute().resolve()
    inside = photos.is_relative_to(root.folder.resolve()) and (photos / row["photo"]).resolve().is_relative_to(photos)
    image = raw_picture(photos, row) if inside else None
    if image is None:
        raise DataError(f"the photo {row['photo'][:80]!r} cannot be shown")
    image.thumbnail((min(side, _SIDE), min(side, _SIDE)))
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=86)
    return buffer.getvalue()


@dataclass(frozen=True)
class _Index:
    """`index.parquet`, one row for each photo, those of a person side by side."""

    table: pa.Table

    @functools.cached_property
    def people(self) -> tuple[list[str], list[int], list[int]]:
        """Names, the number of the first photo, how many photos."""
        names: list[str] = []
        firsts: list[int] = []
        for number, identity in enumerate(self.table.column("identity").to_pylist()):
            if not names or names[-1] != identity:
                names.append(identity)
                firsts.append(number)
        ends = [*firsts[1:], self.table.num_rows]
        return names, firsts, [end - first for first, end in zip(firsts, ends, strict=True)]


def _meta(root: Root, name: str) -> dict[str, Any]:
    place = f"{name}/{META_FILE}"
    if root.stat(place) is None:
        raise DataError(f"no dataset {name!r} in {root.place}")
    try:
        meta = json.loads(root.read(place))
        version, _ = meta["schema_version"], meta["counts"]["stages"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{place} is damaged ({error})") from None
    if version not in READABLE_VERSIONS:
        raise DataError(f"{name} has dataset format {version}, which this version does not read")
    return meta


# Kept until the file changes: pages ask many times. A handful of datasets is looked at side by side.
_KEPT: dict[tuple[str, str], tuple[tuple, Any]] = {}


def _kept(root: Root, name: str, make: Any) -> Any:
    entry = root.stat(name)
    if entry is None:
        raise DataError(f"{name} is not in {root.place}")
    version, key = (entry.changed, entry.size), (root.place, name)
    known = _KEPT.get(key)
    if known is None or known[0] != version:
        while len(_KEPT) >= 8:
            _KEPT.pop(next(iter(_KEPT)))
        _KEPT[key] = known = (version, make(name))
    return known[1]


def _index(root: Root, name: str) -> _Index:
    _meta(root, name)
    return _kept(root, f"{name}/{INDEX_FILE}", lambda file: _Index(_table(root, file)))


def _rejects(root: Root, name: str) -> pa.Table:
    return _kept(root, f"{name}/{REJECTS_FILE}", lambda file: _table(root, file))


def _table(root: Root, file: str, columns: Sequence[str] | None = None) -> pa.Table:
    with root.open(file) as stream:
        return pq.read_table(stream, columns=None if columns is None else list(columns))


def _row(root: Root, name: str, index: _Index, number: int, columns: Sequence[str]) -> dict[str, Any]:
    """Columns of one photo; those that an older format lacks are None."""
    place: Mapping[str, Any] = index.table.slice(number, 1).to_pylist()[0]
    with root.open(f"{name}/{place['file']}") as stream:
        file = pq.ParquetFile(stream)
        there = [column for column in columns if column in file.schema_arrow.names]
        table = file.read_row_group(place["row_group"], columns=there)
        return dict.fromkeys(columns) | {column: table.column(column)[place["row"]].as_py() for column in there}


def _matching(root: Root, name: str, index: _Index, text: str) -> set[str]:
    table = index.table
    found = table.filter(pc.or_(_has(table.column("identity"), text), _has(table.column("photo"), text)))
    hits = set(found.column("identity").to_pylist())
    if table.num_rows <= _SEARCHED:
        for file in dict.fromkeys(table.column("file").to_pylist()):
            said = _table(root, f"{name}/{file}", ("identity", "caption"))
            hits |= set(said.filter(_has(said.column("caption"), text)).column("identity").to_pylist())
    return hits


def _has(column: pa.ChunkedArray, text: str) -> pa.ChunkedArray:
    return pc.fill_null(pc.match_substring(column, text, ignore_case=True), False)
