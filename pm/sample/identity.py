"""How an adapter wants its ID photos: its metadata says how those of its training were prepared."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from pm.errors import CheckpointError, PmError, RequestError
from pm.model.adapter_file import AdapterMeta
from pm.photo.crop import CropConfig
from pm.photo.faces.dlib import Dlib
from pm.photo.masks.grabcut import GrabCut
from pm.photo.pixels import flatten
from pm.photo.stored import Preparation, read_preparation
from pm.sample.references import Prepare, Reference, load_photo, prepare_drawing, prepare_photo
from pm.sample.wall import has_wall

AnyPhoto = Image.Image | np.ndarray | str | Path  # arrays: uint8 [H, W, 3]
PREPROCESS = ("auto", "none", "photo", "drawing")
# For `photo` where no metadata says otherwise: the values of conf/face/dlib.yaml, conf/mask/grabcut.yaml and conf/crop.
PHOTO = Preparation(
    face=Dlib(name="dlib", min_size=80, upsample=1, max_side=1280),
    mask=GrabCut(name="grabcut", min_overlap=0.3, max_share=0.95, iterations=5, side=256),
    crop=CropConfig(face_share=0.1, working_side=512, max_upscale=2),
)


def preparer(meta: AdapterMeta | None, preprocess: str = "auto") -> Prepare:
    """What makes a reference of a photo: `(image, name, path or None) → Reference`.

    Args:
        meta: of the adapter that will see the photos; None: the photos stay as they are.
        preprocess: "auto": as in the adapter's training; "none": as they are; "photo": the square around the largest
            face, masked; "drawing": the person in front of a plain background.

    Raises:
        RequestError: no such way.
        CheckpointError: the adapter's metadata does not say how.
    """
    if preprocess not in PREPROCESS:
        raise RequestError(f"preprocess={preprocess!r} is not one of {', '.join(PREPROCESS)}")
    if preprocess == "auto":
        return _as_trained(meta)
    if preprocess == "photo":
        trained = _settings(meta)
        return _photo(trained if trained and trained.face.name != "sidecar" else PHOTO)
    return _drawing if preprocess == "drawing" else _as_it_is


def prepare_all(images: Sequence[AnyPhoto], prepare: Prepare) -> list[Reference]:
    """Prepare photos given as Pillow images, uint8 [H, W, 3] arrays or paths of files.

    Raises:
        RequestError: one cannot be used; it is named "photo 1", "photo 2", ... or by its path.
    """
    return [_prepared(image, f"photo {i + 1}", prepare) for i, image in enumerate(images)]


def _prepared(image: AnyPhoto, name: str, prepare: Prepare) -> Reference:
    if isinstance(image, Image.Image):
        return prepare(image, name, None)
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (3, 4))):
            raise RequestError(f"{name} is a {image.dtype} array {list(image.shape)}; give uint8 [H, W, 3]")
        return prepare(Image.fromarray(image), name, None)
    if isinstance(image, str | Path):
        return prepare(load_photo(Path(image)), str(image), Path(image))
    raise RequestError(f"{name} is a {type(image).__name__}; give Pillow images, uint8 arrays [H, W, 3] or file names")


def _as_trained(meta: AdapterMeta | None) -> Prepare:
    if meta is None or meta.crop_mode == "none":
        return _as_it_is
    trained = _settings(meta)
    if trained is None:
        return _by_look  # the file does not say
    return _drawing if trained.face.name == "sidecar" else _photo(trained)


def _settings(meta: AdapterMeta | None) -> Preparation | None:
    values = None if meta is None else meta.extra.get("preprocess")
    if not values:
        return None
    try:
        return read_preparation(values)
    except PmError as error:
        raise CheckpointError(f"adapter metadata about ID photos is damaged ({error}); use preprocess=none") from None


def _as_it_is(image: Image.Image, name: str, path: Path | None) -> Reference:
    return Reference(flatten(image), None, path)


def _drawing(image: Image.Image, name: str, path: Path | None) -> Reference:
    return prepare_drawing(image, name=name, path=path)


def _photo(how: Preparation) -> Callable[[Image.Image, str, Path | None], Reference]:
    return lambda image, name, path: prepare_photo(image, how, name=name, path=path)


def _by_look(image: Image.Image, name: str, path: Path | None) -> Reference:
    return _drawing(image, name, path) if has_wall(flatten(image)) else _photo(PHOTO)(image, name, path)
