"""Stage 5: the person's mask in the crop (paper section 3.3, "Cropping and segmentation")."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from pm.data.config import MaskConfig
from pm.data.records import Photo, each_kept
from pm.errors import ConfigError, install_hint
from pm.photo.pixels import decode_png, encode_png, resize_mask
from pm.photo.sidecar import SidecarError, read_sidecar, sidecar_mask

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


def make_masker(
    config: MaskConfig, root: str | Path, *, dtype: str = "float32", batch_size: int | None = None
) -> Masker:
    """The masker that `mask=` names; a model is loaded at the first photo.

    Args:
        config: the choice.
        root: where the photos are, for sidecars.
        dtype, batch_size: of a model; batch_size None: measured.

    Raises:
        ConfigError: what it needs is not installed.
        CheckpointError: the model is missing.
    """
    if config.name == "sidecar":
        return SidecarMasker(root)
    if config.name == "mask2former":
        from pm.photo.masks.mask2former import Mask2FormerMasker

        return Mask2FormerMasker(config.path, config.label, config.threshold, dtype=dtype, batch_size=batch_size)
    try:
        from pm.photo.masks.grabcut import GrabCutMasker
    except ImportError:
        raise ConfigError(f"mask=grabcut needs OpenCV; run {install_hint('photos')}") from None
    return GrabCutMasker(config.iterations, config.side, config.max_share)


def face_overlap(mask: np.ndarray, face: Sequence[float]) -> float:
    """Share of the face box [x0, y0, x1, y1] (pixels of the mask) that the mask [S, S] covers, 0..1."""
    side = mask.shape[0]
    x0, y0, x1, y1 = (min(max(v, 0), side) for v in (*map(int, face[:2]), *(int(np.ceil(v)) for v in face[2:])))
    inside = mask[y0:y1, x0:x1]
    return float((inside >= 128).mean()) if inside.size else 0.0


def mask_photos(photos: Sequence[Photo], masker: Masker, min_overlap: float, resolution: int) -> list[Photo]:
    """Give every photo the mask that overlaps its face most, at `resolution` pixels.

    Maskers with a method `many` get all crops at once. Rejects: no mask at all, one that covers less than `min_overlap`
    of the face box, and one that keeps more of the crop than the masker's `max_share`, if it has one.
    """
    if hasattr(masker, "many"):
        kept = [photo for photo in photos if not photo.reject]
        found = masker.many([np.asarray(decode_png(photo.crop, "RGB")) for photo in kept])
        masks = {photo.photo: each for photo, each in zip(kept, found, strict=True)}
        return each_kept(photos, lambda photo: _best(photo, masks[photo.photo], min_overlap, resolution, None))
    return each_kept(photos, lambda photo: _mask(photo, masker, min_overlap, resolution))


def face_in_crop(photo: Photo, side: int) -> tuple[float, ...]:
    """The face box in pixels of the crop at `side` pixels."""
    left, top, right, _ = photo.crop_box
    scale = side / (right - left)
    return tuple((v - o) * scale for v, o in zip(photo.face.box, (left, top, left, top), strict=True))


def _mask(photo: Photo, masker: Masker, min_overlap: float, resolution: int) -> Photo:
    crop = np.asarray(decode_png(photo.crop, "RGB"))
    try:
        masks = masker(photo, crop, face_in_crop(photo, crop.shape[0]))
    except SidecarError as error:
        return photo.rejected(STAGE, error.reason)
    return _best(photo, masks, min_overlap, resolution, getattr(masker, "max_share", None))


def _best(
    photo: Photo, masks: Sequence[np.ndarray], min_overlap: float, resolution: int, max_share: float | None
) -> Photo:
    candidates = [mask for mask in masks if (mask >= 128).any()]
    if not candidates:
        return photo.rejected(STAGE, "no_mask", 0, 1)
    face = face_in_crop(photo, candidates[0].shape[0])
    overlap, best = max(((face_overlap(m, face), i) for i, m in enumerate(candidates)), key=lambda pair: pair[0])
    if overlap < min_overlap:
        return photo.rejected(STAGE, "mask_misses_face", overlap, min_overlap)
    share = float((candidates[best] >= 128).mean())
    if max_share is not None and share > max_share:
        return photo.rejected(STAGE, "mask_keeps_all", share, max_share)
    return replace(photo, mask=encode_png(np.asarray(resize_mask(Image.fromarray(candidates[best]), resolution))))
