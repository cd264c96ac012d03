"""`mask=sidecar`: the person's mask from the annotations beside the photo."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from pm.photo.masks.select import MaskChoice, Masker
from pm.photo.pixels import resize_mask
from pm.photo.sidecar import sidecar_mask
from pm.photo.types import Crop


@dataclass(frozen=True)
class Sidecar(MaskChoice):
    """The mask as annotated."""

    def build(self, *, device: str | None = None, dtype: str = "float32", batch_size: int | None = None) -> Masker:
        return annotated_mask


def annotated_mask(crop: Crop) -> list[np.ndarray]:
    """The crop's part of the photo's annotated mask; a `Masker`."""
    mask = sidecar_mask(crop.photo.annotations, crop.photo.height, crop.photo.width)
    if mask is None:
        return []
    left, top, right, bottom = (int(v) for v in crop.box)
    cut = Image.fromarray(np.ascontiguousarray(mask[top:bottom, left:right]))
    return [np.asarray(resize_mask(cut, crop.pixels.shape[0]))]
