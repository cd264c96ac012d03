"""ID photos from disk, prepared by the same stages as the training data: face, crop, mask."""

import glob
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from pm.data.config import CropConfig, FaceConfig, MaskConfig
from pm.data.crop import crop_photos
from pm.data.faces import Detector, SidecarDetector, find_faces, make_detector
from pm.data.listing import PHOTO_SUFFIXES
from pm.data.masks import Masker, SidecarMasker, make_masker, mask_photos
from pm.data.pixels import decode_png, read_photo
from pm.data.records import Photo
from pm.errors import ConfigError, RequestError
from pm.model.images import square

_Stages = tuple[Detector, int, Masker | None, float]  # with the least face in pixels and the mask's least overlap


@dataclass(frozen=True)
class Reference:
    """One prepared ID photo."""

    path: Path
    image: Image.Image  # RGB, square around the face
    mask: Image.Image | None  # L, white = the person


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


def load_references(
    paths: Sequence[Path], face: FaceConfig | None, mask: MaskConfig | None, crop: CropConfig
) -> list[Reference]:
    """Prepare ID photos.

    With `face` every photo goes through the stages of preprocessing. Without it, photos with a sidecar are prepared
    by that; of the others the centred square is taken, without a mask.

    Raises:
        RequestError: a photo cannot be read, or a stage rejects it.
        ConfigError: a mask stage without a face stage.
    """
    if mask is not None and face is None:
        raise ConfigError(f"mask={mask.name} needs to know the face; choose face=dlib or face=sidecar as well")
    return [_prepare(path, face, mask, crop) for path in paths]


def _prepare(path: Path, face: FaceConfig | None, mask: MaskConfig | None, crop: CropConfig) -> Reference:
    try:
        pixels = read_photo(path)
    except (OSError, ValueError) as error:
        raise RequestError(f"ID photo {path} cannot be read ({error}); give a PNG, JPEG or WebP file") from error
    stages = _stages(path, face, mask)
    if stages is None:
        return Reference(path, square(Image.fromarray(pixels)), None)
    detector, least_face, masker, least_overlap = stages
    photo = Photo(identity="", photo=path.name, height=pixels.shape[0], width=pixels.shape[1])
    (photo,) = find_faces([photo], path.parent, detector, None, least_face)
    _check(photo, path)
    # Of several people the one in front: verification against other photos needs a whole folder.
    largest = max(photo.faces, key=lambda f: (f.box[2] - f.box[0]) * (f.box[3] - f.box[1]))
    (photo,) = crop_photos([replace(photo, faces=(largest,))], path.parent, crop, least_side=1)
    _check(photo, path)
    image = decode_png(photo.crop, "RGB")
    if masker is None:
        return Reference(path, image, None)
    (photo,) = mask_photos([photo], masker, least_overlap, image.width)
    _check(photo, path)
    return Reference(path, image, decode_png(photo.mask, "L"))


def _stages(path: Path, face: FaceConfig | None, mask: MaskConfig | None) -> _Stages | None:
    """What prepares this photo; None: nothing, its centre is taken."""
    folder = path.parent
    if face is not None:
        masker = None if mask is None else make_masker(mask, folder)
        return make_detector(face, folder), face.min_size, masker, 0.0 if mask is None else mask.min_overlap
    if path.with_suffix(".json").is_file():
        return SidecarDetector(folder), 1, SidecarMasker(folder), 0.0
    return None


def _check(photo: Photo, path: Path) -> None:
    if photo.reject is None:
        return
    why, numbers = photo.reject.reason.replace("_", " "), ""
    if photo.reject.value is not None:
        numbers = f" ({photo.reject.value:g}, needs {photo.reject.threshold:g})"
    raise RequestError(
        f"ID photo {path}: {why}{numbers}; use another photo, or face=null to take the centre of it as it is"
    )
