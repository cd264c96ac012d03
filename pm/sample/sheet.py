"""A contact sheet: one picture for each value of one setting, or for each pair of values of two, with labelled axes."""

import dataclasses
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from PIL import Image, ImageDraw, ImageFont

from pm.errors import RequestError
from pm.files import check_place, writing
from pm.sample.config import GenerateConfig
from pm.sample.output_file import SUFFIXES, save_picture
from pm.sample.record import of_all
from pm.sample.run import draw, protector_of, save_drawn
from pm.sample.settings import changed, full_name, values_of

_GROUND, _INK, _GAP = (255, 255, 255), (30, 30, 30), 6
_LEAST_TILE, _MOST_TILE, _LABEL_LINES = 96, 512, 4
_MOST_CELLS = 1000
# One base, loaded once, and one sheet.
_FIXED = (
    *("base", "device", "dtype", "compile", "quantize", "offload", "vae_tiling", "check_base", "modules", "batch_size"),
    *("images", "output", "format", "quality", "png_level", "manifest", "skip_bad_rows", "workers", "x", "y", "like"),
)


@dataclass(frozen=True)
class Axis:
    """One setting and its values; without a name, one value that changes nothing."""

    name: str = ""  # dotted
    label: str = ""  # as typed
    values: tuple[Any, ...] = (None,)

    def changes(self, value: Any) -> dict[str, Any]:
        return {self.name: value} if self.name else {}

    def labels(self) -> list[str]:
        """One for each value: files and parts by their names."""
        return [f"{self.label} {_shown(value)}" if self.name else "" for value in self.values]


def read_axis(text: str | None, which: str) -> Axis:
    """`steps:10,20,50`, `seed:0-3` or `prompt:a man img | a man img, smiling`.

    Raises:
        RequestError: no such setting, one that is the same for a whole sheet, or no values.
    """
    if not text:
        return Axis()
    name, colon, values = text.partition(":")
    if not colon or not values.strip():
        raise RequestError(f"{which}={text!r} must be a setting and its values, such as {which}=steps:10,20,50")
    full = full_name(name.strip(), _FIXED)
    return Axis(full, full.removeprefix("sampler."), tuple(values_of(full, values)))


def generate_sheet(config: GenerateConfig, progress: bool = True) -> Path:
    """Write `sheet.png` and every picture of it, `0000.png`, `0001.png`, ... row by row; returns the folder.

    Raises:
        PmError: as `pm.sample.run.generate`; every cell is checked before anything is made.
    """
    x, y = read_axis(config.x, "x"), read_axis(config.y, "y")
    if x.name and x.name == y.name:
        raise RequestError(f"x and y both vary {x.label}; give another setting to one of them")
    count = len(x.values) * len(y.values)
    if count > _MOST_CELLS:
        raise RequestError(f"x and y make {count} pictures, at most {_MOST_CELLS} fit a sheet; give fewer values")
    folder, suffix = Path(config.output), SUFFIXES[config.format]
    check_place(folder, "output=")
    plain = replace(config, x=None, y=None, images=1)
    cells = [changed(plain, y.changes(down) | x.changes(across)) for down in y.values for across in x.values]
    protector = protector_of(config)
    drawn = draw(cells, progress, protector)
    columns = len(x.values)
    rows = [[each.image for each in drawn[i : i + columns]] for i in range(0, len(drawn), columns)]
    sheet = labelled_sheet(rows, x.labels(), y.labels())
    with writing(folder, "output="):
        save_drawn(drawn, folder, config, protector)
        said = of_all(drawn[0].about, config) | {"x": config.x or "", "y": config.y or ""}
        save_picture(folder / f"sheet{suffix}", sheet, said, config.format, config.quality, config.png_level, protector)
    return folder


def labelled_sheet(rows: list[list[Image.Image]], x: list[str], y: list[str]) -> Image.Image:
    """Pictures of any size in a table, each enlarged or reduced to one tile.

    Args:
        rows: of equal length, at least one picture.
        x: a label above each column; all empty: none.
        y: a label left of each row; all empty: none.
    """
    tile = min(_MOST_TILE, max(_LEAST_TILE, max(max(image.size) for row in rows for image in row)))
    font = cast(ImageFont.FreeTypeFont, ImageFont.load_default(max(12, tile // 16)))
    line, scratch = int(font.size * 1.35), ImageDraw.Draw(Image.new("RGB", (1, 1)))
    above = [_lines(scratch, label, font, tile) for label in x]
    beside = [_lines(scratch, label, font, 2 * tile) for label in y]
    top = max(map(len, above)) * line + _GAP
    left = int(max((scratch.textlength(text, font) for lines in beside for text in lines), default=0)) + _GAP
    size = (left + len(x) * (tile + _GAP), top + len(y) * (tile + _GAP))
    canvas = Image.new("RGB", size, _GROUND)
    pen = ImageDraw.Draw(canvas)
    for i, lines in enumerate(above):
        for k, text in enumerate(lines):
            pen.text((left + i * (tile + _GAP), _GAP // 2 + k * line), text, _INK, font)
    for j, (row, lines) in enumerate(zip(rows, beside, strict=True)):
        corner = top + j * (tile + _GAP)
        for k, text in enumerate(lines):
            pen.text((_GAP // 2, corner + (tile - len(lines) * line) // 2 + k * line), text, _INK, font)
        for i, image in enumerate(row):
            canvas.paste(*_fitted(image, (left + i * (tile + _GAP), corner), tile))
    return canvas


def _fitted(image: Image.Image, corner: tuple[int, int], tile: int) -> tuple[Image.Image, tuple[int, int]]:
    """A picture in its tile, centred; small ones stay crisp."""
    factor = tile / max(image.size)
    factor = int(factor) if factor >= 2 else factor
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    method = Image.Resampling.NEAREST if factor >= 1 else Image.Resampling.LANCZOS
    place = (corner[0] + (tile - size[0]) // 2, corner[1] + (tile - size[1]) // 2)
    return image.convert("RGB").resize(size, method), place


def _lines(pen: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """Words in lines of at most `width` pixels; what is too much ends with dots."""
    lines: list[str] = []
    for word in text.split():
        if lines and pen.textlength(f"{lines[-1]} {word}", font) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    if len(lines) > _LABEL_LINES:
        lines = [*lines[: _LABEL_LINES - 1], f"{lines[_LABEL_LINES - 1]} ..."]
    return [_cut(pen, line, font, width) for line in lines]


def _cut(pen: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    while len(text) > 4 and pen.textlength(text, font) > width:
        text = f"{text[:-4]}..."
    return text


def _shown(value: Any) -> str:
    if dataclasses.is_dataclass(value) or isinstance(value, dict):
        return str(value["name"] if isinstance(value, dict) else getattr(value, "name", value))
    text = str(value)
    return Path(text).name if "/" in text and " " not in text else text
