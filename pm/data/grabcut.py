"""Person masks without weights: OpenCV's GrabCut around a face. Needs the extra `photos`."""

from collections.abc import Sequence

import cv2
import numpy as np

from pm.data.records import Photo


class GrabCutMasker:
    """OpenCV's GrabCut, seeded by the face box; each connected region is a candidate.

    No weights needed, and good enough to remove most of the background; a panoptic model does better.
    """

    def __init__(self, iterations: int, side: int):
        self.iterations, self.side = iterations, side

    def __call__(self, photo: Photo, crop: np.ndarray, face: Sequence[float]) -> list[np.ndarray]:
        full = crop.shape[0]
        side = min(full, self.side)
        crop = cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA)
        labels = grabcut_seed(side, [v * side / full for v in face])
        background, foreground = np.zeros((1, 65)), np.zeros((1, 65))
        cv2.setRNGSeed(0)  # its colour clusters start at random
        try:
            cv2.grabCut(
                np.ascontiguousarray(crop[..., ::-1]),
                labels,
                None,
                background,
                foreground,
                self.iterations,
                cv2.GC_INIT_WITH_MASK,
            )
        except cv2.error:  # one colour only: nothing to tell apart
            return []
        person = np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
        count, regions = cv2.connectedComponents(person)
        masks = [np.where(regions == i, 255, 0).astype(np.uint8) for i in range(1, count)]
        return [cv2.resize(mask, (full, full), interpolation=cv2.INTER_LINEAR) for mask in masks]


def grabcut_seed(side: int, face: Sequence[float]) -> np.ndarray:
    """GrabCut labels [S, S] before it runs.

    Surely person: an ellipse inside the face. Probably person: head with hair, and neck and shoulders widening below
    it down to the border. Surely background: well above the head, and far beside its upper half. The rest: probably
    background.
    """
    x0, y0, x1, y1 = face
    width, height, middle = x1 - x0, y1 - y0, (x0 + x1) / 2
    labels = np.full((side, side), cv2.GC_PR_BGD, np.uint8)
    rows, columns = np.mgrid[:side, :side] + 0.5
    labels[(rows < y0 + height / 2) & (np.abs(columns - middle) > 1.6 * width)] = cv2.GC_BGD
    labels[rows < y0 - 0.9 * height] = cv2.GC_BGD
    labels[(rows > y1) & (np.abs(columns - middle) < 0.5 * width + 1.2 * (rows - y1))] = cv2.GC_PR_FGD
    centre = (y0 + y1) / 2 - 0.1 * height
    labels[((columns - middle) / (0.75 * width)) ** 2 + ((rows - centre) / (0.85 * height)) ** 2 < 1] = cv2.GC_PR_FGD
    inner = ((columns - middle) / (0.35 * width)) ** 2 + ((rows - (y0 + y1) / 2) / (0.42 * height)) ** 2 < 1
    labels[inner] = cv2.GC_FGD
    return labels
