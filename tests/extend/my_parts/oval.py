"""`mask=oval`: an oval around the face, as in a portrait medallion."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Ge

from pm.photo.masks.select import MaskChoice, Masker
from pm.photo.types import Crop


@dataclass(frozen=True)
class Oval(MaskChoice):
    widen: Annotated[float, Ge(1)]  # axes of the oval, in sizes of the face box

    def build(self, *, device: str | None = None, dtype: str = "float32", batch_size: int | None = None) -> Masker:
        return OvalMasker(self.widen)


class OvalMasker:
    def __init__(self, widen: float):
        self.widen = widen

    def __call__(self, crop: Crop) -> list[np.ndarray]:
        x0, y0, x1, y1 = crop.face
        rows, columns = np.mgrid[: crop.pixels.shape[0], : crop.pixels.shape[1]] + 0.5
        across = (columns - (x0 + x1) / 2) / (self.widen * (x1 - x0) / 2)
        down = (rows - (y0 + y1) / 2) / (self.widen * (y1 - y0) / 2)
        return [np.where(across**2 + down**2 < 1, 255, 0).astype(np.uint8)]
