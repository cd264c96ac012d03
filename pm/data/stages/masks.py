"""Stage 5: the person's mask in the crop (paper section 3.3, "Cropping and segmentation")."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from pm.data.records import Photo, refused
from pm.data.source.beside import view_of
from pm.data.stages.stage import Place, Remedy, Stage, Work
from pm.photo.crop import face_in_crop
from pm.photo.masks.select import STAGE, MaskChoice, Masker, find_masks, select_mask
from pm.photo.pixels import decode_png, encode_png, resize_mask
from pm.photo.types import Crop, Refusal


@dataclass(frozen=True)
class Masks(Stage):
    """What `mask=` says."""

    name: ClassVar[str] = STAGE
    remedies: ClassVar[Mapping[str, Remedy]] = {
        "mask_misses_face": Remedy("mask.min_overlap", limit=0.15),
        "mask_keeps_all": Remedy(words="another mask= may tell person and background apart where this one cannot"),
        "no_mask": Remedy(words="another mask= may find the person where this one does not"),
    }

    @property
    def pool(self) -> bool:
        """As the choice."""
        return self.config.mask.holds_model

    @property
    def gpu(self) -> bool:
        """As the choice."""
        return self.config.mask.uses_gpu

    def depends(self) -> dict[str, Any]:
        """The choice with its settings."""
        return {"mask": self.config.mask}

    def check(self) -> None:
        """Is the model there?"""
        self._masker("cpu")

    def build(self, place: Place) -> list[Work]:
        """One part."""
        masker, root, side = self._masker(place.device), str(self.config.dataset.root), place.sizes.resolution
        config = self.config.mask
        return [Work(self.name, lambda photos: mask_photos(photos, root, config, masker, side), per_photo=True)]

    def _masker(self, device: str) -> Masker:
        config = self.config
        return config.mask.build(device=device, dtype=config.dtype, batch_size=config.workers.batch_size)


def mask_photos(
    photos: Sequence[Photo], root: str | Path, config: MaskChoice, masker: Masker, resolution: int
) -> list[Photo]:
    """Give every photo the mask that overlaps its face most, at `resolution` pixels.

    Rejects what `select_mask` refuses.
    """
    if hasattr(masker, "many"):
        kept = [photo for photo in photos if not photo.reject]
        done = dict(zip((photo.photo for photo in kept), _masked(kept, root, config, masker, resolution), strict=True))
        return [done.get(photo.photo, photo) for photo in photos]
    return [photo if photo.reject else _masked([photo], root, config, masker, resolution)[0] for photo in photos]


def _masked(
    photos: Sequence[Photo], root: str | Path, config: MaskChoice, masker: Masker, resolution: int
) -> list[Photo]:
    crops = [_crop_of(photo, root) for photo in photos]
    result = []
    for photo, crop, candidates in zip(photos, crops, find_masks(crops, masker), strict=True):
        best: np.ndarray | Refusal
        if isinstance(candidates, Refusal):
            best = candidates
        else:
            best = select_mask(crop, candidates, config.min_overlap, config.max_share)
        if isinstance(best, Refusal):
            result.append(refused(photo, best))
        else:
            mask = resize_mask(Image.fromarray(best), resolution)
            result.append(replace(photo, mask=encode_png(np.asarray(mask))))
    return result


def _crop_of(photo: Photo, root: str | Path) -> Crop:
    pixels = np.asarray(decode_png(photo.crop, "RGB"))
    box = tuple(int(v) for v in photo.crop_box)
    return Crop(view_of(photo, root), box, face_in_crop(photo.face.box, box, pixels.shape[0]), pixels)
