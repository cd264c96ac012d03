"""One photo → face, square crop, person mask. Every step returns a value or a `Refusal`; nothing is read or written.

Preprocessing turns a refusal into a row of `rejects.parquet`, sampling and serving into a message to the user.
"""

from dataclasses import dataclass, replace

import numpy as np

from pm.photo.crop import cut_square
from pm.photo.faces.detect import Detector, clip_box
from pm.photo.masks.select import Masker, find_masks, select_mask
from pm.photo.stored import Preparation
from pm.photo.types import Crop, Face, PhotoView, Refusal, SidecarError

STAGE = "faces"
PICKS = ("largest", "left", "middle", "right")
_NEAR = 0.5  # of the largest face's side


@dataclass(frozen=True)
class SelectedFace:
    """The face that was taken, and the others that could have been."""

    face: Face
    others: tuple[Face, ...] = ()
    pick: str = "largest"  # how it was chosen


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


def select_face(photo: PhotoView, detector: Detector, min_size: int, pick: str = "largest") -> SelectedFace | Refusal:
    """One face of a photo; of several people the one in front, unless `pick` says another.

    Args:
        photo: the photo.
        detector: finds the faces.
        min_size: pixels, shorter side of a face's box.
        pick: one of `PICKS`. The others choose among faces of at least half the largest one's side: smaller ones are
            people in the background, or no people at all.

    Returns:
        The face, or what `usable_faces` refuses.
    """
    faces = usable_faces(photo, detector, min_size)
    if isinstance(faces, Refusal):
        return faces
    largest = max(faces, key=lambda face: face.area)
    near = [face for face in faces if face.side >= _NEAR * largest.side]
    middles = [(face.box[0] + face.box[2]) / 2 for face in near]
    places = {
        "largest": near.index(largest),
        "left": int(np.argmin(middles)),
        "right": int(np.argmax(middles)),
        "middle": int(np.argmin(np.abs(np.subtract(middles, photo.width / 2)))),
    }
    taken = near[places[pick]]
    return SelectedFace(taken, tuple(face for face in near if face is not taken), pick)


@dataclass(frozen=True)
class Prepared:
    """A photo of one person: the crop, the mask (uint8 [S, S], 255 on the person) and which face it is."""

    crop: Crop
    mask: np.ndarray | None
    selected: SelectedFace


def prepare(
    photo: PhotoView, how: Preparation, detector: Detector, masker: Masker | None, pick: str = "largest"
) -> Prepared | Refusal:
    """All of it for one photo.

    Args:
        photo: the photo.
        how: the settings.
        detector: what `how.face` builds.
        masker: what `how.mask` builds; None: there will be no mask.
        pick: as in `select_face`.

    Returns:
        The crop with its mask, or what the first step that failed refuses.
    """
    selected = select_face(photo, detector, how.face.min_size, pick)
    if isinstance(selected, Refusal):
        return selected
    cut = cut_square(photo, selected.face, how.crop)
    if isinstance(cut, Refusal):
        return cut
    if how.mask is None or masker is None:
        return Prepared(cut, None, selected)
    (candidates,) = find_masks([cut], masker)
    if isinstance(candidates, Refusal):
        return candidates
    best = select_mask(cut, candidates, how.mask.min_overlap, how.mask.max_share)
    return best if isinstance(best, Refusal) else Prepared(cut, best, selected)
