"""ID photos, from disk or from memory, prepared as the training data was: face, crop, mask."""

import functools
import glob
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pm.errors import CheckpointError, PmError, RequestError
from pm.model.adapter_file import AdapterMeta
from pm.model.images import square
from pm.photo.faces.detect import Detector, FaceChoice
from pm.photo.masks.select import MaskChoice, Masker
from pm.photo.pixels import PHOTO_SUFFIXES, flatten, read_photo
from pm.photo.prepare import PICKS, SelectedFace, prepare, select_face
from pm.photo.sidecar import parse_sidecar
from pm.photo.stored import Preparation, read_preparation
from pm.photo.types import Face, PhotoView, Refusal, SidecarError, SidecarMissing
from pm.sample.wall import people_on_wall

WAY_OUT = "use another photo, or preprocess=none to take it as it is"
_LONG, _VERY_LONG = 1.3, 1.5  # sides of a photo of which the centred square may, and will, miss something
_LEAST_SIDE = 24  # pixels of a drawing
_PLACES = {"left": "on the left", "middle": "in the middle", "right": "on the right"}


@dataclass(frozen=True)
class Reference:
    """One prepared ID photo."""

    image: Image.Image  # RGB, square around the face; as it is when nothing was prepared
    mask: Image.Image | None = None  # L, white = the person
    path: Path | None = None
    notes: tuple[str, ...] = ()  # what the user should know, e.g. that one of several people was chosen
    index: int = 0  # which of the given photos it is
    face: Face | None = None  # in pixels of the photo; with its embedding where the adapter takes one
    landmarks: str | None = None  # which points of the face are known, as `FaceChoice.landmarks` has it


class UnusablePhoto(RequestError):
    """A photo that is there and cannot be used; `photo`: its name; `why`: without the name."""

    def __init__(self, photo: str, why: str, way_out: str = WAY_OUT):
        super().__init__(f"{photo}: {why}; {way_out}")
        self.photo, self.why, self.way_out = photo, why, way_out

    def __reduce__(self) -> tuple:
        return type(self), (self.photo, self.why, self.way_out)


def find_references(places: Sequence[str]) -> list[Path]:
    """Photos named by files, folders (their photos, sorted) or glob patterns, in the order given.

    Raises:
        RequestError: a place has no photo.
    """
    found: list[Path] = []
    for place in places:
        path = Path(place).expanduser()
        if path.is_dir():
            photos = sorted(p for p in path.iterdir() if p.suffix.lower() in PHOTO_SUFFIXES)
        elif path.is_file():
            photos = [path]
        else:
            matches = (Path(match) for match in glob.glob(str(path), recursive=True))
            photos = sorted(p for p in matches if p.suffix.lower() in PHOTO_SUFFIXES)
        if not photos:
            where = f"in the folder {path.absolute()}" if path.is_dir() else f"at {path.absolute()}"
            raise RequestError(f"id_images: no photo {where}; give files, a folder or a pattern such as 'me/*.jpg'")
        found += photos
    return found


def load_photo(path: Path) -> Image.Image:
    """Decode a photo file upright, as RGB.

    Raises:
        UnusablePhoto: it cannot be read.
        RequestError: it does not exist.
    """
    if not path.exists():
        raise RequestError(f"ID photo {path} cannot be read ({path.absolute()} does not exist)")
    try:
        return Image.fromarray(read_photo(path))
    except (OSError, ValueError) as error:
        why = f"cannot be read ({error})"
        raise UnusablePhoto(str(path), why, "give a PNG, JPEG, WebP or HEIC file") from error


def prepare_photo(
    image: Image.Image, how: Preparation, *, name: str, path: Path | None = None, pick: str = "largest"
) -> Reference:
    """Cut the square around a face out of a photo, and find the person's mask in it.

    Args:
        image: upright.
        how: the stages of preprocessing and their settings.
        name: of the photo, for messages.
        path: of the photo, for stages that read the annotations beside it.
        pick: of several faces, as in `pm.photo.prepare.select_face`.

    Raises:
        UnusablePhoto: no face, too small a face, or no person around it.
    """
    photo = PhotoView.of(np.asarray(flatten(image)), functools.partial(_annotations, path))
    done = prepare(photo, how, detector_of(how.face), _masker(how.mask), pick)
    if isinstance(done, Refusal):
        raise UnusablePhoto(name, done.sentence())
    crop, mask = Image.fromarray(done.crop.pixels), None if done.mask is None else Image.fromarray(done.mask)
    notes = _notes(name, done.selected)
    return Reference(crop, mask, path, notes, face=done.selected.face, landmarks=how.face.landmarks)


def prepare_whole(
    image: Image.Image, how: Preparation | None, *, name: str, path: Path | None = None, pick: str = "largest"
) -> Reference:
    """A photo as it is. Adapters see its centred square: where a face would be cut off by that, the square around it.

    Args:
        image: upright.
        how: which face detector; None: no face is looked for.
        name: of the photo, for messages.
        path: of the photo.
        pick: of several faces, as in `pm.photo.prepare.select_face`.
    """
    plain, (width, height) = flatten(image), image.size
    short, long = sorted(image.size)
    if long < _LONG * short:
        return Reference(plain, None, path)
    upright, start = height > width, (long - short) // 2
    ends = "above and below" if upright else "left and right"
    box = None if how is None else _face_box(plain, how, path, pick)
    if box is None:
        if long < _VERY_LONG * short:
            return Reference(plain, None, path)
        note = f"{name}: its centred square is taken, {start} of {long} pixels {ends} are cut off"
        return Reference(plain, None, path, (f"{note}; crop it to the face, or use preprocess=photo",))
    first, last = (box[1], box[3]) if upright else (box[0], box[2])
    if first >= start and last <= start + short:
        return Reference(plain, None, path)
    moved = round(min(max((first + last - short) / 2, 0), long - short))
    crop = (0, moved, short, moved + short) if upright else (moved, 0, moved + short, short)
    note = f"{name}: the face is not in the centred square of its {width} x {height} pixels; took the square around it"
    return Reference(plain.crop(crop), None, path, (note,))


def _face_box(image: Image.Image, how: Preparation, path: Path | None, pick: str) -> Sequence[float] | None:
    """Of the face that would be taken; None: there is none, or nothing to find it with."""
    try:
        photo = PhotoView.of(np.asarray(image), functools.partial(_annotations, path))
        found = select_face(photo, detector_of(how.face), how.face.min_size, pick)
    except PmError:  # the detector is not installed
        return None
    return None if isinstance(found, Refusal) else found.face.box


def prepare_drawing(image: Image.Image, *, name: str, path: Path | None = None) -> Reference:
    """Prepare a picture with a plain background: its centred square, and the person in front of the wall.

    Raises:
        RequestError: nobody there, or too small.
    """
    picture = square(flatten(image))
    if picture.width < _LEAST_SIDE:
        raise UnusablePhoto(name, f"is {image.width} x {image.height} pixels, needs {_LEAST_SIDE} at least")
    people = people_on_wall(picture)
    if not people:
        raise UnusablePhoto(name, "shows nobody in front of its background")
    notes = (f"{name}: {len(people)} people, took the largest",) if len(people) > 1 else ()
    return Reference(picture, people[0], path, notes)


def preparation_of(meta: AdapterMeta | None) -> Preparation | None:
    """How the photos of an adapter's training were prepared; None: its metadata does not say.

    Raises:
        CheckpointError: what it says is damaged.
    """
    values = None if meta is None else meta.extra.get("preprocess")
    if not values:
        return None
    try:
        return read_preparation(values)
    except PmError as error:
        raise CheckpointError(f"adapter metadata about ID photos is damaged ({error}); use preprocess=none") from None


def _notes(name: str, selected: SelectedFace) -> tuple[str, ...]:
    if not selected.others:
        return ()
    count, side = len(selected.others) + 1, selected.face.side
    taken = "largest" if selected.pick == "largest" else f"one {_PLACES[selected.pick]}"
    *others, last = (pick for pick in PICKS if pick != selected.pick)
    way_out = f"to take another, crop the photo or choose pick={', '.join(others)} or {last}"
    return (f"{name}: {count} faces, took the {taken} ({side:.0f} pixels); {way_out}",)


@functools.lru_cache(maxsize=8)  # a detector reads its model from disk
def detector_of(choice: FaceChoice) -> Detector:
    """The detector, kept for the next photos.

    Raises:
        PmError: it cannot be loaded.
    """
    return choice.build()


@functools.lru_cache(maxsize=8)
def _masker(choice: MaskChoice | None) -> Masker | None:
    return None if choice is None else choice.build()


def _annotations(path: Path | None) -> dict[str, Any]:
    """What the file beside a photo says.

    Raises:
        SidecarError: there is none, or it is broken.
    """
    if path is None:
        raise SidecarMissing()
    try:
        return parse_sidecar(path.with_suffix(".json").read_bytes())
    except FileNotFoundError:
        raise SidecarMissing() from None
    except OSError:
        raise SidecarError("bad_sidecar") from None


Prepare = Callable[[Image.Image, str, Path | None], Reference]
