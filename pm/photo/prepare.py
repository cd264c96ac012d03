"""One photo → face, square crop, person mask. Every step returns a value or a `Refusal`; nothing is read or written.

Preprocessing turns a refusal into a row of `rejects.parquet`, sampling and serving into a message to the user.
"""

from dataclasses import dataclass, replace

import numpy as np

from pm.photo.crop import CropConfig, cut_square
from pm.photo.faces.detect import Detector, clip_box
from pm.photo.masks.select import MaskChoice, Masker, find_masks, select_mask
from pm.photo.types import Crop, Face, PhotoView, Refusal, SidecarError

STAGE = "faces"


@dataclass(frozen=True)
class SelectedFace:
    """The face that was taken, and the others that could have been."""

    face: Face
    others: tuple[Face, ...] = ()


def usable_faces(photo: PhotoView, detector: Detector, min_size: int) -> tuple[Face, ...] | Refusal:
    """All faces of at least `min_size` pixels (shorter side), boxes clipped to the photo.

    Refuses: no face, only smaller ones, annotations missing or broken.
    """
    try:
        found = detector(photo)
    except SidecarError as error:
        return Refusal(STAGE, error.reason)
    if not found:
        return Refusal(STAGE, "no_face", 0, 1)
    faces = [replace(face, box=clip_box(face.box, photo.width, photo.height)) for face in found]
    large = tuple(face for face in faces if face.side >= min_size)
    return large or Refusal(STAGE, "face_too_small", max(face.side for face in faces), min_size)


def select_face(photo: PhotoView, detector: Detector, min_size: int) -> SelectedFace | Refusal:
    """The largest face: of several people the one in front. Refuses what `usable_faces` refuses."""
    faces = usable_faces(photo, detector, min_size)
    if isinstance(faces, Refusal):
        return faces
    best = max(faces, key=lambda face: face.area)
    return SelectedFace(best, tuple(face for face in faces if face is not best))


@dataclass(frozen=True)
class Prepared:
    """A photo of one person: the crop, the mask (uint8 [S, S], 255 on the person) and which face it is."""

    crop: Crop
    mask: np.ndarray | None
    selected: SelectedFace


def prepare(
    photo: PhotoView,
    detector: Detector,
    min_size: int,
    crop: CropConfig,
    mask: MaskChoice | None,
    masker: Masker | None,
) -> Prepared | Refusal:
    """All of it for one photo; without a masker there is no mask."""
    selected = select_face(photo, detector, min_size)
    if isinstance(selected, Refusal):
        return selected
    cut = cut_square(photo, selected.face, crop)
    if isinstance(cut, Refusal):
        return cut
    if mask is None or masker is None:
        return Prepared(cut, None, selected)
    (candidates,) = find_masks([cut], masker)
    if isinstance(candidates, Refusal):
        return candidates
    best = select_mask(cut, candidates, mask.min_overlap, mask.max_share)
    return best if isinstance(best, Refusal) else Prepared(cut, best, selected)
