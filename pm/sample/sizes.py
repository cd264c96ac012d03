"""Widths and heights: by aspect ratio, and rounded to what a base can draw."""

import math
import re

from pm.errors import RequestError, did_you_mean

NAMES = {"square": 1.0, "portrait": 3 / 4, "landscape": 4 / 3, "tall": 9 / 16, "wide": 16 / 9}
_MOST = 4.0  # the longest that SDXL was trained with
_SDXL_SIDE = 1024
# SDXL report (Podell et al. 2023), appendix I: heights and widths of multi-aspect training. Those not square, by their
# shorter side; each stands for the upright and the lying one.
_SDXL_SIDES = (
    *((512, long) for long in (2048, 1984, 1920, 1856)),
    *((576, long) for long in (1792, 1728, 1664)),
    *((640, long) for long in (1600, 1536)),
    *((704, long) for long in (1472, 1408, 1344)),
    *((768, long) for long in (1344, 1280)),
    *((832, long) for long in (1216, 1152)),
    *((896, long) for long in (1152, 1088)),
    *((960, long) for long in (1088, 1024)),
)
SDXL_BUCKETS = (
    (_SDXL_SIDE, _SDXL_SIDE),
    *_SDXL_SIDES,
    *((long, short) for short, long in _SDXL_SIDES),
)  # width, height


def aspect_size(aspect: str, resolution: int, pixel_step: int) -> tuple[int, int]:
    """Width and height in pixels for an aspect ratio, with about as many pixels as the base was trained for.

    Args:
        aspect: `width:height`, such as `3:4` or `2.35:1`; or one of `NAMES`.
        resolution: side that the base was trained for. At 1024 the nearest of SDXL's trained sizes is taken.
        pixel_step: sides are multiples of this.

    Raises:
        RequestError: no such ratio, or a longer one than 4:1.
    """
    ratio = ratio_of(aspect)
    if resolution == _SDXL_SIDE:
        return min(SDXL_BUCKETS, key=lambda size: abs(math.log(size[0] / size[1] / ratio)))
    width, height = resolution * math.sqrt(ratio), resolution / math.sqrt(ratio)
    return _nearest(width, pixel_step), _nearest(height, pixel_step)


def ratio_of(aspect: str) -> float:
    """Width over height.

    Raises:
        RequestError: as `aspect_size`.
    """
    text = str(aspect).strip().lower()
    found = re.fullmatch(r"(\d{1,5}(?:\.\d+)?)\s*[:/x]\s*(\d{1,5}(?:\.\d+)?)", text, re.ASCII)
    if text not in NAMES and not (found and float(found[1]) and float(found[2])):
        hint = did_you_mean(text, NAMES) or ";"
        raise RequestError(f"aspect={aspect!r} is no ratio{hint} use width:height such as 3:4, or {', '.join(NAMES)}")
    ratio = NAMES[text] if text in NAMES else float(found[1]) / float(found[2])  # type: ignore[index]
    if not 1 / _MOST <= ratio <= _MOST:
        raise RequestError(f"aspect={aspect!r} is out of range; use 1:4 to 4:1")
    return ratio


def rounded(value: int, pixel_step: int) -> int:
    """The nearest side that can be drawn; what is no size at all stays as it is, to be refused."""
    return _nearest(value, pixel_step) if value > 0 else value


def rounding_note(width: int | None, height: int | None, pixel_step: int) -> str | None:
    """What the user should know of sides that are no multiples of `pixel_step`; None where all are."""
    odd = [
        f"{name}={value} is no multiple of {pixel_step}, {rounded(value, pixel_step)} is taken"
        for name, value in (("width", width), ("height", height))
        if value is not None and value > 0 and value % pixel_step
    ]
    return "; ".join(odd) or None


def _nearest(value: float, pixel_step: int) -> int:
    return max(pixel_step, math.floor(value / pixel_step + 0.5) * pixel_step)
