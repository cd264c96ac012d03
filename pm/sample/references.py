"""ID photos, from disk or from memory, prepared as the training data was: face, crop, mask."""

import functools
import glob
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from pm.data.config import CropConfig, FaceConfig, MaskConfig
from pm.data.records import Face, Photo
from pm.data.source.listing import PHOTO_SUFFIXES
from pm.data.stages.crop import face_share, square_box
from pm.data.stages.faces import Detector, make_detector
from pm.data.stages.masks import Masker, face_in_crop, face_overlap, make_masker
from pm.errors import ConfigError, RequestError
from pm.model.images import square
from pm.photo.pixels import flatten, read_photo, resize, resize_mask
from pm.photo.sidecar import SidecarError
from pm.sample.wall import people_on_wall

WAY_OUT = "use another photo, or preprocess=none to take it as it is"
_LEAST_SIDE = 24  # pixels of a drawing


@dataclass(frozen=True)
class Reference:
    """One prepared ID photo."""

    image: Image.Image  # RGB, square around the face; as it is when nothing was prepared
    mask: Image.Image | None = None  # L, white = the person
    path: Path | None = None
    notes: tuple[str, ...] = ()  # what the user should know, e.g. that one of several people was chosen


@dataclass(frozen=True)
class Preparation:
    """How photos are prepared."""

    face: FaceConfig
    mask: MaskConfig | None
    crop: CropConfig


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
            raise RequestError(f"id_images: no photo at {place}; give files, a folder or a pattern such as 'me/*.jpg'")
        found += photos
    return found


def load_photo(path: Path) -> Image.Image:
    """Decode a photo file upright, as RGB.

    Raises:
        RequestError: it cannot be read.
    """
    try:
        return Image.fromarray(read_photo(path))
    except (OSError, ValueError) as error:
        raise RequestError(f"ID photo {path} cannot be read ({error}); give a PNG, JPEG or WebP file") from error


def prepare_photo(image: Image.Image, how: Preparation, *, name: str, path: Path | None = None) -> Reference:
    """Cut the square around the largest face out of a photo, and find the person's mask in it.

    Args:
        image: upright.
        how: the stages of preprocessing and their settings.
        name: of the photo, for messages.
        path: of the photo, for stages that read the annotations beside it.

    Raises:
        RequestError: no face, too small a face, or no person around it.
    """
    detector, masker = _stages(how.face, how.mask, path.parent if path else Path())
    pixels = np.asarray(flatten(image))
    photo = Photo(identity="", photo=path.name if path else name, height=pixels.shape[0], width=pixels.shape[1])
    face, notes = _largest_face(photo, pixels, detector, how.face.min_size, name)
    box = square_box(face.box, photo.width, photo.height, how.crop.face_share)
    share = face_share(face.box, box)
    if share < how.crop.face_share:
        least = f"{how.crop.face_share:.0%}"
        raise _refused(name, f"the face fills {share:.1%} of the square around it, needs {least}")
    side = min(box[2] - box[0], how.crop.working_side)
    crop = resize(Image.fromarray(pixels).crop(box), side)
    if masker is None:
        return Reference(crop, None, path, notes)
    cut = replace(photo, faces=(face,), crop_box=tuple(float(v) for v in box))
    return Reference(crop, _mask(cut, np.asarray(crop), masker, how.mask.min_overlap, name), path, notes)


def prepare_drawing(image: Image.Image, *, name: str, path: Path | None = None) -> Reference:
    """Prepare a picture with a plain background: its centred square, and the person in front of the wall.

    Raises:
        RequestError: nobody there, or too small.
    """
    picture = square(flatten(image))
    if picture.width < _LEAST_SIDE:
        raise _refused(name, f"is {image.width} x {image.height} pixels, needs {_LEAST_SIDE} at least")
    people = people_on_wall(picture)
    if not people:
        raise _refused(name, "shows nobody in front of its background")
    notes = (f"{name}: {len(people)} people, took the largest",) if len(people) > 1 else ()
    return Reference(picture, people[0], path, notes)


def _largest_face(
    photo: Photo, pixels: np.ndarray, detector: Detector, least: int, name: str
) -> tuple[Face, tuple[str, ...]]:
    try:
        found = detector(photo, pixels)
    except SidecarError as error:
        raise _refused(name, error.reason.replace("_", " ")) from None
    if not found:
        raise _refused(name, "no face found")
    limits = np.array([photo.width, photo.height] * 2)
    faces = [replace(f, box=tuple(np.clip(f.box, 0, limits).tolist())) for f in found]
    # Of several people the one in front: verification against other photos needs a whole folder.
    largest = max(faces, key=lambda f: (f.box[2] - f.box[0]) * (f.box[3] - f.box[1]))
    size = min(largest.box[2] - largest.box[0], largest.box[3] - largest.box[1])
    if size < least:
        raise _refused(name, f"face too small ({size:.0f} pixels, needs {least})")
    notes = (f"{name}: {len(faces)} faces, took the largest ({size:.0f} pixels)",) if len(faces) > 1 else ()
    return largest, notes


def _mask(photo: Photo, crop: np.ndarray, masker: Masker, least: float, name: str) -> Image.Image:
    """The candidate that covers most of the face."""
    face = face_in_crop(photo, crop.shape[0])
    try:
        candidates = [mask for mask in masker(photo, crop, face) if (mask >= 128).any()]
    except SidecarError as error:
        raise _refused(name, error.reason.replace("_", " ")) from None
    if not candidates:
        raise _refused(name, "the person could not be told from the background")
    overlap, best = max(((face_overlap(m, face), i) for i, m in enumerate(candidates)), key=lambda pair: pair[0])
    if overlap < least:
        raise _refused(name, f"the person's mask covers {overlap:.0%} of the face, needs {least:.0%}")
    share, limit = float((candidates[best] >= 128).mean()), getattr(masker, "max_share", None)
    if limit is not None and share > limit:
        raise _refused(name, f"the person could not be told from the background (the mask keeps {share:.0%})")
    return resize_mask(Image.fromarray(candidates[best]), crop.shape[0])


def _refused(name: str, why: str) -> RequestError:
    return RequestError(f"{name}: {why}; {WAY_OUT}")


@functools.lru_cache(maxsize=8)  # a detector reads its model from disk
def _cached_detector(config: FaceConfig) -> Detector:
    return make_detector(config, "")


def _stages(face: FaceConfig, mask: MaskConfig | None, folder: Path) -> tuple[Detector, Masker | None]:
    detector = make_detector(face, folder) if face.name == "sidecar" else _cached_detector(face)
    return detector, None if mask is None else make_masker(mask, folder)


Prepare = Callable[[Image.Image, str, Path | None], Reference]


def load_references(
    paths: Sequence[Path],
    face: FaceConfig | None,
    mask: MaskConfig | None,
    crop: CropConfig,
    otherwise: Prepare | None = None,
    sidecars: bool = True,
) -> list[Reference]:
    """Prepare ID photos on disk.

    With `face` every photo goes through the stages of preprocessing. Without it, photos with a sidecar are prepared
    by that, unless `sidecars` is False, and the others by `otherwise`; without it, their centred square is taken.

    Raises:
        RequestError: a photo cannot be read, or a stage rejects it.
        ConfigError: a mask stage without a face stage.
    """
    if mask is not None and face is None:
        raise ConfigError(f"mask={mask.name} needs to know the face; choose face=dlib or face=sidecar as well")
    beside = FaceConfig(name="sidecar", min_size=1, **dict.fromkeys(("upsample", "max_side", "pack", "threshold")))
    unused = ("iterations", "side", "max_share", "path", "label", "threshold")
    person = MaskConfig(name="sidecar", min_overlap=1e-9, **dict.fromkeys(unused))
    references = []
    for path in paths:
        image = load_photo(path)
        if face is not None:
            how = Preparation(face, mask, crop)
            references.append(prepare_photo(image, how, name=str(path), path=path))
        elif sidecars and path.with_suffix(".json").is_file():
            how = Preparation(beside, person, crop)
            references.append(prepare_photo(image, how, name=str(path), path=path))
        else:
            references.append(otherwise(image, str(path), path) if otherwise else Reference(square(image), None, path))
    return references
