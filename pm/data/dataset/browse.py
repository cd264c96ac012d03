"""A dataset as one HTML page that needs nothing else: counts, people with their photos, rejects with reasons.

Reads the index and the rejects in batches and writes the page as it goes: a large dataset costs time, not memory.
"""

import base64
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jinja2
import pyarrow.parquet as pq
from PIL import Image, ImageDraw, ImageOps

from pm.data.config import BrowseConfig
from pm.data.dataset.preview import crop_and_person, raw_picture
from pm.data.dataset.writer import BROWSE_FILE
from pm.data.records import INDEX_FILE, REJECTS_FILE, read_meta
from pm.errors import DataError
from pm.files import open_atomic, writing
from pm.model.prompt import mark

_ROW = ("photo", "id_crop", "mask", "caption", "class_word", "face_box", "crop_box", "class_rule", "source", "licence")
_GREEN, _YELLOW, _GREY = (60, 200, 90), (250, 210, 60), (225, 225, 225)
_REJECTED = ("identity", "photo", "value", "threshold", "detail", "source")


def write_page(config: BrowseConfig) -> Path:
    """Write the page; returns its path.

    Raises:
        DataError: no finished dataset, or a person asked for is not in it.
    """
    dataset = Path(str(config.dataset))
    meta = read_meta(dataset)
    root = config.photos or meta.get("config", {}).get("dataset", {}).get("root")
    chosen = _chosen(dataset / INDEX_FILE, config)
    template = Path(__file__).with_name("browse.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["number"] = lambda value: f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    stream = environment.from_string(template).stream(
        name=dataset.name,
        meta=meta,
        funnel=funnel(meta["counts"]),
        shown=len(chosen),
        people=_people(dataset, chosen, root, config),
        rejects=_rejects(dataset / REJECTS_FILE, root, config, list(meta["counts"]["stages"])),
        root=root,
    )
    path = Path(config.output) if config.output else dataset / BROWSE_FILE
    with writing(path, "output="), open_atomic(path, sync=False) as file:
        stream.dump(file)
    return path


def funnel(counts: dict[str, Any]) -> list[dict[str, Any]]:
    """One row for each stage: what came in, what stayed, the reasons, and the share of all photos found, in percent."""
    whole = max(1, counts["found"])
    rows = []
    for stage, count in counts["stages"].items():
        reasons = ", ".join(f"{reason.replace('_', ' ')} {n}" for reason, n in count["rejected"].items())
        share = {"kept_share": 100 * count["kept"] / whole, "in_share": 100 * count["in"] / whole}
        rate = count.get("photos_per_worker_second")
        rows.append(
            {"stage": stage, "in": count["in"], "kept": count["kept"], "reasons": reasons, "rate": rate, **share}
        )
    return rows


def _chosen(index: Path, config: BrowseConfig) -> set[int]:
    """Numbers of the people to show, in the index's order: those named, else evenly spaced ones."""
    total, named = 0, set()
    for number, identity, _ in _identities(index):
        total = number + 1
        if identity in config.people:
            named.add((number, identity))
    missing = sorted(set(config.people) - {identity for _, identity in named})
    if missing:
        raise DataError(f"dataset {config.dataset} has no person named {', '.join(missing)}")
    if config.people:
        return {number for number, _ in named}
    count = min(total, config.identities)
    return {i * total // count for i in range(count)}


def _identities(index: Path) -> Iterator[tuple[int, str, list[dict[str, Any]]]]:
    """(number, identity, its index rows), a person at a time."""
    number = -1
    rows: list[dict[str, Any]] = []
    for batch in pq.ParquetFile(index).iter_batches():
        for row in batch.to_pylist():
            if rows and rows[0]["identity"] != row["identity"]:
                number += 1
                yield number, rows[0]["identity"], rows
                rows = []
            rows.append(row)
    if rows:
        yield number + 1, rows[0]["identity"], rows


def _people(dataset: Path, chosen: set[int], root: str | None, config: BrowseConfig) -> Iterator[dict[str, Any]]:
    for number, identity, rows in _identities(dataset / INDEX_FILE):
        if number in chosen:
            shown = (_stored(dataset, row) for row in rows[: config.photos_per_identity])
            photos = [_kept(row, root, config.side) for row in shown]
            yield {"identity": identity, "count": len(rows), "photos": photos}


def _stored(dataset: Path, place: dict[str, Any]) -> dict[str, Any]:
    """One row of the dataset; columns that an older format lacks are None."""
    file = pq.ParquetFile(dataset / place["file"])
    names = [name for name in _ROW if name in file.schema_arrow.names]
    table = file.read_row_group(place["row_group"], columns=names)
    return dict.fromkeys(_ROW) | {name: table.column(name)[place["row"]].as_py() for name in names}


def _kept(row: dict[str, Any], root: str | None, side: int) -> dict[str, Any]:
    crop, person = crop_and_person(row["id_crop"], row["mask"], side)
    marked = mark(row["caption"], row["class_word"])
    start, end = marked.span
    return {
        **{name: row[name] for name in ("photo", "class_rule", "source", "licence")},
        "raw": _raw(root, row, side, [(row["crop_box"], _YELLOW), (row["face_box"], _GREEN)]),
        "crop": _jpeg(crop),
        "mask": _jpeg(person),
        "caption": (marked.text[:start], marked.text[start:end], marked.text[end:]),
    }


def _raw(
    root: str | None, row: dict[str, Any], side: int, boxes: Sequence[tuple[Sequence[float], tuple]]
) -> str | None:
    """The raw photo with boxes drawn on it; None where it is not to be shown."""
    image = raw_picture(root, row) if root else None
    if image is None:
        return None
    draw, width = ImageDraw.Draw(image), max(1, round(2 * max(image.size) / side))
    for (x0, y0, x1, y1), ink in boxes:
        draw.rectangle((x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)), outline=ink, width=width)
    return _jpeg(ImageOps.pad(image, (side, side), color=_GREY))


def _rejects(path: Path, root: str | None, config: BrowseConfig, stages: Sequence[str]) -> list[dict[str, Any]]:
    """Rejected photos by stage (in the graph's order) and reason, the first few of each."""
    counts: Counter[tuple[str, str]] = Counter()
    shown: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for batch in pq.ParquetFile(path).iter_batches():
        for row in batch.to_pylist():
            key = (row["stage"], row["reason"])
            counts[key] += 1
            if counts[key] <= config.rejects:
                found = {name: row.get(name) for name in _REJECTED}
                shown.setdefault(key, []).append({**found, "raw": _raw(root, row, config.side, [])})
    return [
        {"stage": stage, "reason": reason.replace("_", " "), "count": counts[stage, reason], "photos": photos}
        for (stage, reason), photos in sorted(shown.items(), key=lambda group: (stages.index(group[0][0]), group[0][1]))
    ]


def _jpeg(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
