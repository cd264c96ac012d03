"""`mask=grabcut`: person masks without weights, by OpenCV's GrabCut around a face. Needs the extra `photos`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Ge

from pm.photo.masks.select import MaskChoice, Masker
from pm.photo.opencv import import_cv2
from pm.photo.pixels import bgr
from pm.photo.types import Crop


@dataclass(frozen=True)
class GrabCut(MaskChoice):
    """OpenCV's GrabCut, seeded by the face box."""

    iterations: Annotated[int, Ge(1)]
    side: Annotated[int, Ge(16)]  # pixels it works at; its time grows with the area

    def build(self, *, device: str | None = None, dtype: str = "float32", batch_size: int | None = None) -> Masker:
        import_cv2("mask=grabcut")
        return GrabCutMasker(self.iterations, self.side)


class GrabCutMasker:
    """OpenCV's GrabCut, seeded and bounded by the face box; each connected region is a candidate.

    No weights needed, and good enough to remove most of the background; a panoptic model does better. Where person and
    background have the same colours it cannot tell them apart and keeps everything: that mask says nothing, and
    `select_mask` refuses what keeps more than `max_share` of the crop.
    """

    def __init__(self, iterations: int, side: int):
        self.iterations, self.side = iterations, side

    def __call__(self, crop: Crop) -> list[np.ndarray]:
        import cv2

        full = crop.pixels.shape[0]
        side = min(full, self.side)
        pixels = cv2.resize(crop.pixels, (side, side), interpolation=cv2.INTER_AREA)
        labels = grabcut_seed(side, [v * side / full for v in crop.face])
        background, foreground = np.zeros((1, 65)), np.zeros((1, 65))
        cv2.setRNGSeed(0)  # its colour clusters start at random
        try:
            cv2.grabCut(
                bgr(pixels),
                labels,
                (0, 0, side, side),  # ignored, since the labels are the start
                background,
                foreground,
                self.iterations,
                cv2.GC_INIT_WITH_MASK,
            )
        except cv2.error:  # one colour only, or no background at all: nothing to tell apart
            return []
        person = np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
        return [cv2.resize(mask, (full, full), interpolation=cv2.INTER_LINEAR) for mask in _regions(person)]


def _regions(person: np.ndarray) -> list[np.ndarray]:
    """Connected regions of a 0/1 mask [S, S] as masks of 255, without thin bridges between them and without holes."""
    import cv2

    radius = max(1, person.shape[0] // 64)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    count, regions = cv2.connectedComponents(cv2.morphologyEx(person, cv2.MORPH_OPEN, disc))
    masks = []
    for number in range(1, count):
        outlines, _ = cv2.findContours((regions == number).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        masks.append(cv2.drawContours(np.zeros_like(person), outlines, -1, 255, cv2.FILLED))
    return masks


def grabcut_seed(side: int, face: Sequence[float]) -> np.ndarray:
    """GrabCut labels [S, S] before it runs.

    Surely person: an ellipse that touches the sides of the face box. Probably person: head with hair, and neck and
    shoulders widening below it down to the border. Surely background: outside a generous outline of head, hair and
    shoulders, so that however alike the colours are, no mask leaves it. The rest: probably background.
    """
    import cv2

    x0, y0, x1, y1 = face
    width, height, middle = x1 - x0, y1 - y0, (x0 + x1) / 2
    labels = np.full((side, side), cv2.GC_PR_BGD, np.uint8)
    rows, columns = np.mgrid[:side, :side] + 0.5
    beside, below = np.abs(columns - middle), rows - y1

    def ellipse(across: float, down: float, up: float) -> np.ndarray:
        """Half axes in face widths and heights; `up` face heights above the face's middle."""
        centre = (y0 + y1) / 2 - up * height
        return (beside / (across * width)) ** 2 + ((rows - centre) / (down * height)) ** 2 < 1

    labels[(below <= 0) & ~ellipse(1.35, 1.45, 0.15)] = cv2.GC_BGD
    labels[(below > 0) & (beside > 1.6 * width + 1.6 * below)] = cv2.GC_BGD
    labels[(below > 0) & (beside < 0.5 * width + 1.2 * below)] = cv2.GC_PR_FGD
    labels[ellipse(0.85, 1.0, 0.12)] = cv2.GC_PR_FGD
    labels[ellipse(0.42, 0.5, 0.0)] = cv2.GC_FGD
    return labels
