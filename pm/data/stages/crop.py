"""Stage 4: a square around the face, larger than the face but at most ten times its area (paper section 3.3)."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from pm.data.config import CropConfig
from pm.data.records import Photo, each_kept
from pm.data.source.store import read_pixels
from pm.photo.pixels import encode_png, resize

STAGE = "crop"


def square_box(face: Sequence[float], width: int, height: int, face_share: float) -> tuple[int, int, int, int]:
    """The largest square of whole pixels in which the face fills at least `face_share`.

    Centred on the face and moved, not shrunk, where it would leave the photo; shrunk only when the photo is smaller.

    Args:
        face: x0, y0, x1, y1 in pixels, inside the photo.
        width, height: of the photo.
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


def crop_photos(photos: Sequence[Photo], root: str | Path, config: CropConfig, least_side: int) -> list[Photo]:
    """Cut the square out of each photo.

    The crop keeps the photo's own pixels up to `config.working_side`, and has at least `least_side`, what the later
    stages need. Rejects faces that do not fit a square with their share (long boxes at a photo's border), and crops
    that would have to be enlarged more than `config.max_upscale` times: the model would learn the blur.
    """
    return each_kept(photos, lambda photo: _crop(photo, root, config, least_side))


def _crop(photo: Photo, root: str | Path, config: CropConfig, least_side: int) -> Photo:
    box = square_box(photo.face.box, photo.width, photo.height, config.face_share)
    share = face_share(photo.face.box, box)
    if share < config.face_share:
        return photo.rejected(STAGE, "face_share", share, config.face_share)
    side = max(least_side, min(box[2] - box[0], config.working_side))
    upscale = side / (box[2] - box[0])
    if upscale > config.max_upscale:
        return photo.rejected(STAGE, "upscaled", upscale, config.max_upscale)
    pixels = Image.fromarray(read_pixels(root, photo.photo)).crop(box)
    return replace(photo, crop_box=tuple(float(v) for v in box), crop=encode_png(np.asarray(resize(pixels, side))))
