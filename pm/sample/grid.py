"""Labelled picture grids."""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from PIL import Image, ImageDraw, ImageFont

_GROUND, _INK, _FAINT = (255, 255, 255), (30, 30, 30), (120, 120, 120)
_GAP, _GUTTER = 6, 24


@dataclass(frozen=True)
class GridRow:
    """One line of a grid: references left, results right, the caption below."""

    results: Sequence[Image.Image]
    references: Sequence[Image.Image] = ()
    caption: str = ""
    labels: Sequence[str] = ()  # one below each result; fewer are fine


def labelled_grid(rows: Sequence[GridRow], *, tile: int = 192, title: str = "") -> Image.Image:
    """Draw rows of references and results with their captions.

    Args:
        rows: at least one image in all. Images of any size; each is fitted into a square tile.
        tile: side of a tile in pixels. Images smaller than half of it are enlarged by whole factors, unsmoothed.
        title: a line above everything.
    """
    left = max((len(row.references) for row in rows), default=0)
    right = max((len(row.results) for row in rows), default=0)
    if left + right == 0:
        raise ValueError("a grid needs at least one image")
    gutter = _GUTTER if left and right else 0
    width = (left + right) * (tile + _GAP) + _GAP + gutter
    font = cast(ImageFont.FreeTypeFont, ImageFont.load_default(max(11, tile // 13)))
    line = int(font.size * 1.35)
    columns = max(12, int(width / (font.size * 0.56)))
    captions = [textwrap.wrap(row.caption, columns) for row in rows]
    head = textwrap.wrap(title, columns)
    heights = [
        tile + (line if row.labels else 0) + len(c) * line + 2 * _GAP for row, c in zip(rows, captions, strict=True)
    ]
    canvas = Image.new("RGB", (width, sum(heights) + len(head) * line + _GAP), _GROUND)
    draw = ImageDraw.Draw(canvas)
    top = _write(draw, head, (_GAP, _GAP), font, line, _INK)
    for row, caption, height in zip(rows, captions, heights, strict=True):
        for i, image in enumerate(row.references):
            _paste(canvas, image, (_GAP + i * (tile + _GAP), top), tile)
        start = _GAP + left * (tile + _GAP) + gutter
        for i, image in enumerate(row.results):
            _paste(canvas, image, (start + i * (tile + _GAP), top), tile)
        for i, label in enumerate(row.labels[: len(row.results)]):
            draw.text((start + i * (tile + _GAP), top + tile + 2), _fit(draw, label, font, tile), _FAINT, font)
        _write(draw, caption, (_GAP, top + tile + (line if row.labels else 0) + _GAP // 2), font, line, _INK)
        if gutter and row.references and row.results:
            draw.line([(start - _GUTTER // 2 - 3, top), (start - _GUTTER // 2 - 3, top + tile)], (210, 210, 210), 1)
        top += height
    return canvas


def wrapped(row: GridRow, columns: int = 6) -> list[GridRow]:
    """The row, or several that form nearly a square where it has more than `columns` results."""
    count = len(row.results)
    if count <= columns:
        return [row]
    most = max(columns, math.ceil(math.sqrt(count)))
    starts = range(0, count, most)
    return [
        GridRow(
            results=row.results[start : start + most],
            references=row.references if start == 0 else (),
            caption=row.caption if start == starts[-1] else "",
            labels=row.labels[start : start + most],
        )
        for start in starts
    ]


def _paste(canvas: Image.Image, image: Image.Image, corner: tuple[int, int], tile: int) -> None:
    """Fit `image` into the tile, centred."""
    factor = tile / max(image.size)
    if factor >= 2:
        factor = int(factor)  # small pictures stay crisp: every pixel becomes a block of the same size
    width, height = (max(1, round(v * factor)) for v in image.size)
    method = Image.Resampling.NEAREST if factor >= 2 else Image.Resampling.LANCZOS
    shown = image.convert("RGB").resize((width, height), method)
    canvas.paste(shown, (corner[0] + (tile - width) // 2, corner[1] + (tile - height) // 2))


def _write(
    draw: ImageDraw.ImageDraw,
    lines: Sequence[str],
    corner: tuple[int, int],
    font: ImageFont.FreeTypeFont,
    line: int,
    ink: tuple[int, int, int],
) -> int:
    """Write lines below each other; returns where the next would start."""
    for i, text in enumerate(lines):
        draw.text((corner[0], corner[1] + i * line), text, ink, font)
    return corner[1] + len(lines) * line


def _fit(draw: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """Shorten `text` to `width` pixels."""
    while text and draw.textlength(text, font) > width:
        text = text[:-2].rstrip(".") + "." if len(text) > 2 else ""
    return text
