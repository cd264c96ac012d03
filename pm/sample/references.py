"""ID photos, from disk or from memory, prepared as the training data was: face, crop, mask."""

import functools
import glob
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pm.errors import ConfigError, RequestError
from pm.model.images import square
from pm.photo.crop import CropConfig
from pm.photo.faces.detect import Detector, FaceChoice
from pm.photo.faces.sidecar import Sidecar as AnnotatedFaces
from pm.photo.masks.select import MaskChoice, Masker
from pm.photo.masks.sidecar import Sidecar as AnnotatedMask
from pm.photo.pixels import PHOTO_SUFFIXES, flatten, read_photo
from pm.photo.prepare import SelectedFace, prepare
from pm.photo.sidecar import parse_sidecar
from pm.photo.stored import Preparation
from pm.photo.types import PhotoView, Refusal, SidecarError, SidecarMissing
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
    photo = PhotoView.of(np.asarray(flatten(image)), functools.partial(_annotations, path))
    done = prepare(photo, _detector(how.face), how.face.min_size, how.crop, how.mask, _masker(how.mask))
    if isinstance(done, Refusal):
        raise _refused(name, done.sentence())
    crop, mask = Image.fromarray(done.crop.pixels), None if done.mask is None else Image.fromarray(done.mask)
    return Reference(crop, mask, path, _notes(name, done.selected))


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


def _notes(name: str, selected: SelectedFace) -> tuple[str, ...]:
    if not selected.others:
        return ()
    return (f"{name}: {len(selected.others) + 1} faces, took the largest ({selected.face.side:.0f} pixels)",)


def _refused(name: str, why: str) -> RequestError:
    return RequestError(f"{name}: {why}; {WAY_OUT}")


@functools.lru_cache(maxsize=8)  # a detector reads its model from disk
def _detector(choice: FaceChoice) -> Detector:
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


def load_references(
    paths: Sequence[Path],
    face: FaceChoice | None,
    mask: MaskChoice | None,
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
    beside = Preparation(AnnotatedFaces("sidecar", 1), AnnotatedMask("sidecar", 1e-9, 1.0), crop)
    references = []
    for path in paths:
        image = load_photo(path)
        if face is not None:
            how = Preparation(face, mask, crop)
            references.append(prepare_photo(image, how, name=str(path), path=path))
        elif sidecars and path.with_suffix(".json").is_file():
            references.append(prepare_photo(image, beside, name=str(path), path=path))
        else:
            references.append(otherwise(image, str(path), path) if otherwise else Reference(square(image), None, path))
    return references
