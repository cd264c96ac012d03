"""The kind of parts that find the person in a crop, and which of their masks is taken (paper section 3.3)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Protocol

import numpy as np
from annotated_types import Gt, Le

from pm.choice import Choice
from pm.photo.types import Crop, Refusal, SidecarError

STAGE = "masks"


class Masker(Protocol):
    """Masks of the people in a crop: uint8 [S, S] each, 255 on the person.

    A masker that is faster on many crops at once also has `many(crops) -> list of lists of masks`.

    Raises:
        SidecarError: there are no annotations, or broken ones.
    """

    def __call__(self, crop: Crop) -> list[np.ndarray]: ...


@dataclass(frozen=True)
class MaskChoice(Choice, group="mask", package="pm.photo.masks"):
    """Where the person is."""

    name: str
    min_overlap: Annotated[float, Gt(0), Le(1)]  # share of the face box that the mask must cover
    max_share: Annotated[float, Gt(0), Le(1)]  # a mask that keeps more of the crop separates nothing; 1: keep all

    holds_model: ClassVar[bool] = False  # worth a worker of its own that keeps it
    uses_gpu: ClassVar[bool] = False

    def build(self, *, device: str | None = None, dtype: str = "float32", batch_size: int | None = None) -> Masker:
        """The masker.

        Args:
            device: for a model; None: a GPU if there is one.
            dtype: of a model.
            batch_size: of a model; None: measured.

        Raises:
            ConfigError: what it needs is not installed.
            CheckpointError: its model is not there.
        """
        raise NotImplementedError


def find_masks(crops: Sequence[Crop], masker: Masker) -> list[list[np.ndarray] | Refusal]:
    """The candidates of each crop, or why there are none; all at once where the masker can."""
    if hasattr(masker, "many"):
        return masker.many(crops)
    found: list[list[np.ndarray] | Refusal] = []
    for crop in crops:
        try:
            found.append(masker(crop))
        except SidecarError as error:
            found.append(Refusal(STAGE, error.reason))
    return found


def select_mask(
    crop: Crop, candidates: Sequence[np.ndarray], min_overlap: float, max_share: float
) -> np.ndarray | Refusal:
    """The candidate that covers most of the face, uint8 [S, S].

    Refuses: no mask at all, one that covers less than `min_overlap` of the face box, and one that keeps more than
    `max_share` of the crop.
    """
    found = [mask for mask in candidates if (mask >= 128).any()]
    if not found:
        return Refusal(STAGE, "no_mask", 0, 1)
    overlap, best = max(((face_overlap(m, crop.face), i) for i, m in enumerate(found)), key=lambda pair: pair[0])
    if overlap < min_overlap:
        return Refusal(STAGE, "mask_misses_face", overlap, min_overlap)
    share = float((found[best] >= 128).mean())
    if share > max_share:
        return Refusal(STAGE, "mask_keeps_all", share, max_share)
    return found[best]


def face_overlap(mask: np.ndarray, face: Sequence[float]) -> float:
    """Share of the face box [x0, y0, x1, y1] (pixels of the mask) that the mask [S, S] covers, 0..1."""
    side = mask.shape[0]
    x0, y0, x1, y1 = (min(max(v, 0), side) for v in (*map(int, face[:2]), *(int(np.ceil(v)) for v in face[2:])))
    inside = mask[y0:y1, x0:x1]
    return float((inside >= 128).mean()) if inside.size else 0.0
