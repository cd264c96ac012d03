"""`preview.png`: some of the crops with their masks, and some of the rejected photos with the reason."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image, ImageDraw, ImageFont, ImageOps

from pm.data.dataset.writer import PREVIEW_FILE
from pm.data.records import INDEX_FILE, REJECTS_FILE
from pm.data.source.store import read_pixels
from pm.errors import PmError
from pm.files import open_atomic
from pm.photo.pixels import decode_png, resize_mask

_TILE, _CAPTION, _COLUMNS, _ROWS = 128, 30, 8, 3
_NOT_OPENED = ("too_many_bytes", "too_many_pixels", "crashed")  # they would do to this process what they did before
_INK, _RED, _PAPER, _GREY = (30, 30, 30), (190, 30, 30), (255, 255, 255), (225, 225, 225)
_BLUE = (36, 54, 96)


def write_preview(output: str | Path, root: str | Path) -> Path:
    """Draw the contact sheet of a dataset; `root` is where its raw photos are."""
    tiles = [_kept_tile(Path(output), row) for row in _spread(pq.ParquetFile(Path(output, INDEX_FILE)))]
    bad = [_rejected_tile(root, row) for row in _one_of_each(pq.ParquetFile(Path(output, REJECTS_FILE)))]
    sheet = _stack([_grid("kept: the person as the model sees it, background dimmed", tiles), _grid("rejected", bad)])
    path = Path(output, PREVIEW_FILE)
    with open_atomic(path, "wb", sync=False) as stream:
        sheet.save(stream, "PNG")
    return path


def _spread(index: pq.ParquetFile) -> list[dict]:
    """Evenly spaced rows, as many as the sheet has tiles; read in batches."""
    total = index.metadata.num_rows
    count = min(total, _COLUMNS * _ROWS)
    wanted = {i * total // count for i in range(count)}
    found, start = [], 0
    for batch in index.iter_batches():
        found += [batch.slice(i - start, 1).to_pylist()[0] for i in sorted(wanted) if 0 <= i - start < batch.num_rows]
        start += batch.num_rows
    return found


def _one_of_each(rejects: pq.ParquetFile) -> list[dict]:
    """Rejects in turns by reason, so that a frequent one does not push the rare ones out."""
    seen: Counter[tuple] = Counter()
    turns = []
    for batch in rejects.iter_batches():
        for row in batch.to_pylist():
            key = (row["stage"], row["reason"])
            if seen[key] < _COLUMNS * _ROWS:
                turns.append((seen[key], row))
            seen[key] += 1
    return [row for _, row in sorted(turns, key=lambda turn: turn[0])[: _COLUMNS * _ROWS]]


def _kept_tile(output: Path, row: dict) -> Image.Image:
    table = pq.ParquetFile(output / row["file"]).read_row_group(
        row["row_group"], columns=["id_crop", "mask", "caption"]
    )
    crop, mask, caption = (table.column(name)[row["row"]].as_py() for name in ("id_crop", "mask", "caption"))
    return _tile(crop_and_person(crop, mask, _TILE)[1], [row["identity"], caption], _INK)


def crop_and_person(crop: bytes, mask: bytes, side: int) -> tuple[Image.Image, Image.Image]:
    """A stored crop at `side` pixels, and the same with everything but the person dimmed."""
    pixels = decode_png(crop, "RGB").resize((side, side), Image.Resampling.BICUBIC)
    person = np.asarray(resize_mask(decode_png(mask, "L"), side), dtype=np.float32)[..., None] / 255
    dimmed = np.asarray(pixels) * (0.25 + 0.75 * person) + np.array(_BLUE) * (1 - person)
    return pixels, Image.fromarray(dimmed.clip(0, 255).astype(np.uint8))


def raw_picture(root: str | Path, row: dict) -> Image.Image | None:
    """A photo as it was found; None where it cannot be read, or was rejected for what opening it would cost."""
    if row.get("reason") in _NOT_OPENED:
        return None
    try:
        return Image.fromarray(read_pixels(root, row["photo"]))
    except (OSError, ValueError, PmError):
        return None


def _rejected_tile(root: str | Path, row: dict) -> Image.Image:
    image = raw_picture(root, row) or Image.new("RGB", (_TILE, _TILE), _GREY)
    image = ImageOps.pad(image, (_TILE, _TILE), color=_GREY)
    measured = "" if row["value"] is None else f" {row['value']:.3g}"
    asked = "" if row["threshold"] is None else f" / {row['threshold']:.3g}"
    return _tile(image, [row["photo"], f"{row['reason']}{measured}{asked}"], _RED)


def _tile(image: Image.Image, lines: Sequence[str], ink: tuple[int, int, int]) -> Image.Image:
    tile = Image.new("RGB", (_TILE, _TILE + _CAPTION), _PAPER)
    tile.paste(image)
    draw, font = ImageDraw.Draw(tile), ImageFont.load_default(10)
    for number, line in enumerate(lines):
        line = " ".join(line.split())  # names may have line breaks
        while draw.textlength(line, font) > _TILE:
            line = line[:-2].rstrip(".") + "."
        draw.text((1, _TILE + 2 + 13 * number), line, ink, font)
    return tile


def _grid(title: str, tiles: Sequence[Image.Image]) -> Image.Image:
    rows, gap = -(-len(tiles) // _COLUMNS), 6
    grid = Image.new("RGB", (_COLUMNS * (_TILE + gap) + gap, 24 + rows * (_TILE + _CAPTION + gap)), _PAPER)
    label = title if tiles else f"{title}: none"
    ImageDraw.Draw(grid).text((gap, 5), label, _INK, ImageFont.load_default(13))
    for i, tile in enumerate(tiles):
        grid.paste(tile, (gap + i % _COLUMNS * (_TILE + gap), 24 + i // _COLUMNS * (_TILE + _CAPTION + gap)))
    return grid


def _stack(grids: Sequence[Image.Image]) -> Image.Image:
    sheet = Image.new("RGB", (grids[0].width, sum(g.height for g in grids)), _PAPER)
    top = 0
    for grid in grids:
        sheet.paste(grid, (0, top))
        top += grid.height
    return sheet
