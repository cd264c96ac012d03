"""Stage 5: the person's mask in the crop (paper section 3.3, "Cropping and segmentation")."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from pm.data.config import MaskConfig
from pm.data.pixels import decode_png, encode_png, resize_mask
from pm.data.records import Photo, each_kept
from pm.data.sidecar import SidecarError, read_sidecar, sidecar_mask
from pm.errors import ConfigError

STAGE = "masks"


class Masker(Protocol):
    """Masks of the people in a crop: uint8 [S, S] each, 255 on the person."""

    def __call__(self, photo: Photo, crop: np.ndarray, face: Sequence[float]) -> list[np.ndarray]: ...


class SidecarMasker:
    """The mask from the annotations beside the photo."""

    def __init__(self, root: str | Path):
        self.root = root

    def __call__(self, photo: Photo, crop: np.ndarray, face: Sequence[float]) -> list[np.ndarray]:
        mask = sidecar_mask(read_sidecar(self.root, photo.photo), photo.height, photo.width)
        if mask is None:
            return []
        cut = Image.fromarray(mask).crop(tuple(int(v) for v in photo.crop_box))
        return [np.asarray(resize_mask(cut, crop.shape[0]))]


def make_masker(config: MaskConfig, root: str | Path) -> Masker:
    """The masker that `mask=` names.

    Raises:
        ConfigError: what it needs is not installed.
    """
    if config.name == "sidecar":
        return SidecarMasker(root)
    try:
        from pm.data.grabcut import GrabCutMasker
    except ImportError:
        raise ConfigError("mask=grabcut needs OpenCV; run pip install 'photomaker-ray[photos]'") from None
    return GrabCutMasker(config.iterations, config.side)


def face_overlap(mask: np.ndarray, face: Sequence[float]) -> float:
    """Share of the face box [x0, y0, x1, y1] (pixels of the mask) that the mask [S, S] covers, 0..1."""
    side = mask.shape[0]
    x0, y0, x1, y1 = (min(max(v, 0), side) for v in (*map(int, face[:2]), *(int(np.ceil(v)) for v in face[2:])))
    inside = mask[y0:y1, x0:x1]
    return float((inside >= 128).mean()) if inside.size else 0.0


def mask_photos(photos: Sequence[Photo], masker: Masker, min_overlap: float, resolution: int) -> list[Photo]:
    """Give every photo the mask that overlaps its face most, at `resolution` pixels.

    Rejects: no mask at all, or one that covers less than `min_overlap` of the face box.
    """
    return each_kept(photos, lambda photo: _mask(photo, masker, min_overlap, resolution))


def face_in_crop(photo: Photo, side: int) -> tuple[float, ...]:
    """The face box in pixels of the crop at `side` pixels."""
    left, top, right, _ = photo.crop_box
    scale = side / (right - left)
    return tuple((v - o) * scale for v, o in zip(photo.face.box, (left, top, left, top), strict=True))


def _mask(photo: Photo, masker: Masker, min_overlap: float, resolution: int) -> Photo:
    crop = np.asarray(decode_png(photo.crop, "RGB"))
    face = face_in_crop(photo, crop.shape[0])
    try:
        candidates = [m for m in masker(photo, crop, face) if (m >= 128).any()]
    except SidecarError as error:
        return photo.rejected(STAGE, error.reason)
    if not candidates:
        return photo.rejected(STAGE, "no_mask", 0, 1)
    overlap, best = max(((face_overlap(m, face), i) for i, m in enumerate(candidates)), key=lambda pair: pair[0])
    if overlap < min_overlap:
        return photo.rejected(STAGE, "mask_misses_face", overlap, min_overlap)
    return replace(photo, mask=encode_png(np.asarray(resize_mask(Image.fromarray(candidates[best]), resolution))))
