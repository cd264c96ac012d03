"""A square around the face, larger than the face but at most ten times its area (paper section 3.3)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Ge, Gt, Lt
from PIL import Image

from pm.photo.pixels import resize
from pm.photo.types import Crop, Face, PhotoView, Refusal

STAGE = "crop"


@dataclass(frozen=True)
class CropConfig:
    """The square around the face."""

    face_share: Annotated[float, Gt(0), Lt(1)]  # the face fills at least this share of the crop's area
    working_side: Annotated[int, Ge(8)]  # pixels; masks are made at this size where the photo has it
    max_upscale: Annotated[float, Ge(1)]  # photos whose crop would have to be enlarged more than this are refused


def square_box(face: Sequence[float], width: int, height: int, face_share: float) -> tuple[int, int, int, int]:
    """The largest square of whole pixels in which the face fills at least `face_share`.

    Centred on the face and moved, not shrunk, where it would leave the photo; shrunk only when the photo is smaller.

    Args:
        face: x0, y0, x1, y1 in pixels, inside the photo.
        width: of the photo.
        height: of the photo.
        face_share: share of the square's area, 0..1.

    Returns:
        x0, y0, x1, y1.
    """
    x0, y0, x1, y1 = face
    wanted = math.floor(math.sqrt((x1 - x0) * (y1 - y0) / face_share))
    side = max(1, min(width, height, wanted))
    left, top = ((x0 + x1) / 2 - side / 2, (y0 + y1) / 2 - side / 2)
    left, top = (min(max(0, round(v)), limit - side) for v, limit in ((left, width), (top, height)))
    return left, top, left + side, top + side


def face_share(face: Sequence[float], crop: Sequence[float]) -> float:
    """Share of the crop's area that the face fills; what lies outside the crop does not count."""
    inside = overlap_box(face, crop)
    area = (crop[2] - crop[0]) * (crop[3] - crop[1])
    return (inside[2] - inside[0]) * (inside[3] - inside[1]) / area


def overlap_box(a: Sequence[float], b: Sequence[float]) -> tuple[float, float, float, float]:
    """Where two boxes overlap; empty (x1 = x0 or y1 = y0) where they do not."""
    x0, y0 = max(a[0], b[0]), max(a[1], b[1])
    return x0, y0, max(x0, min(a[2], b[2])), max(y0, min(a[3], b[3]))


def face_in_crop(face: Sequence[float], box: Sequence[float], side: int) -> tuple[float, ...]:
    """A face box in pixels of the crop `box`, which has `side` pixels."""
    left, top, right, _ = box
    scale = side / (right - left)
    return tuple((v - o) * scale for v, o in zip(face, (left, top, left, top), strict=True))


def cut_square(photo: PhotoView, face: Face, config: CropConfig, least_side: int = 1) -> Crop | Refusal:
    """Cut the square around the face out of the photo.

    The crop keeps the photo's own pixels up to `config.working_side`, and has at least `least_side`, what later
    stages need.

    Refuses faces that do not fill a square with their share (long boxes at a photo's border), and crops that would
    have to be enlarged more than `config.max_upscale` times: a model would learn the blur.
    """
    box = square_box(face.box, photo.width, photo.height, config.face_share)
    share = face_share(face.box, box)
    if share < config.face_share:
        return Refusal(STAGE, "face_share", share, config.face_share)
    side = max(least_side, min(box[2] - box[0], config.working_side))
    upscale = side / (box[2] - box[0])
    if upscale > config.max_upscale:
        return Refusal(STAGE, "upscaled", upscale, config.max_upscale)
    left, top, right, bottom = box
    cut = Image.fromarray(np.ascontiguousarray(photo.pixels[top:bottom, left:right]))
    return Crop(photo, box, face_in_crop(face.box, box, side), np.asarray(resize(cut, side)))
