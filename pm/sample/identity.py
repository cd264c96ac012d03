"""How an adapter expects its ID photos: its metadata says how those of its training were prepared."""

import functools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from pm.errors import ConfigError, RequestError
from pm.model.adapter_file import AdapterMeta
from pm.model.images import square
from pm.photo.crop import CropConfig
from pm.photo.defaults import shipped_preparation
from pm.photo.embedders.embed import EmbedderChoice
from pm.photo.faces.detect import FaceChoice
from pm.photo.faces.sidecar import Sidecar as AnnotatedFaces
from pm.photo.masks.select import MaskChoice
from pm.photo.masks.sidecar import Sidecar as AnnotatedMask
from pm.photo.pixels import flatten, upright
from pm.photo.prepare import PICKS
from pm.photo.stored import Preparation
from pm.sample.faces import FaceReader, reader_for
from pm.sample.references import (
    Prepare,
    Reference,
    load_photo,
    preparation_of,
    prepare_drawing,
    prepare_photo,
    prepare_whole,
)
from pm.sample.usable import usable
from pm.sample.wall import has_wall, looks_drawn

AnyPhoto = Image.Image | np.ndarray | str | Path  # arrays: uint8 [H, W, 3]
PHOTOGRAPHS = (
    "these look like photographs, but the adapter and its base know drawings only: the portraits will show a stranger; "
    "for the likeness of real people use SDXL (base=sdxl, on a GPU) with an adapter trained on photographs"
)
PREPROCESS = ("auto", "none", "photo", "drawing")


def preparer(
    meta: AdapterMeta | None,
    preprocess: str = "auto",
    photo: Preparation | None = None,
    pick: str = "largest",
    *,
    embedder: EmbedderChoice | None = None,
    read_faces: bool = True,
) -> Prepare:
    """What makes a reference of a photo: `(image, name, path or None) → Reference`.

    Args:
        meta: of the adapter that will see the photos; None: the photos stay as they are.
        preprocess: "auto": as in the adapter's training; "none": as they are; "photo": the square around a face,
            masked; "drawing": the person in front of a plain background.
        photo: how photographs are prepared where the metadata does not say; None: as `conf/` has it.
        pick: of several faces, one of `pm.photo.prepare.PICKS`.
        embedder: as in `pm.sample.faces.reader_for`.
        read_faces: False leaves out the face embeddings that the adapter may take.

    Raises:
        RequestError: no such way.
        CheckpointError: the adapter's metadata does not say how, or asks for another embedder.
    """
    faces = reader_for(meta, embedder, photo, pick) if read_faces else None
    prepare = _preparer(meta, preprocess, photo, pick)
    return prepare if faces is None else functools.partial(_with_face, prepare, faces)


def _preparer(meta: AdapterMeta | None, preprocess: str, photo: Preparation | None, pick: str) -> Prepare:
    if preprocess not in PREPROCESS:
        raise RequestError(f"preprocess={preprocess!r} is not one of {', '.join(PREPROCESS)}")
    if pick not in PICKS:
        raise RequestError(f"pick={pick!r} is not one of {', '.join(PICKS)}")
    if preprocess == "none" or (preprocess == "auto" and (meta is None or meta.crop_mode == "none")):
        return functools.partial(_as_it_is, photo, pick)
    if preprocess == "drawing":
        return _drawing
    trained = preparation_of(meta)
    drawn = trained is not None and trained.face.name == "sidecar"  # photos of a user have no annotations
    if drawn and preprocess == "auto":
        return _trained_on_drawings
    how = photo or shipped_preparation() if trained is None or drawn else trained
    # Without metadata, "auto" goes by the look of a photo.
    return functools.partial(_photo if preprocess == "photo" or trained is not None else _by_look, how, pick)


def prepare_all(images: Sequence[AnyPhoto], prepare: Prepare, strict: bool = False) -> list[Reference]:
    """Prepare photos given as Pillow images, uint8 [H, W, 3] arrays or paths of files.

    Photos that cannot be used are left out with a note as long as others remain, unless `strict`.

    Raises:
        RequestError: none can be used, or one is no photo at all; it is named "photo 1", "photo 2", ... or by its path.
    """
    return usable(len(images), lambda i: _prepared(images[i], f"photo {i + 1}", prepare), strict)


def _with_face(prepare: Prepare, faces: FaceReader, image: Image.Image, name: str, path: Path | None) -> Reference:
    return faces(prepare(image, name, path), image, name)


def load_references(
    paths: Sequence[Path],
    face: FaceChoice | None,
    mask: MaskChoice | None,
    crop: CropConfig,
    otherwise: Prepare | None = None,
    sidecars: bool = True,
    pick: str = "largest",
    strict: bool = False,
    faces: FaceReader | None = None,
) -> list[Reference]:
    """Prepare ID photos on disk.

    With `face` every photo goes through the stages of preprocessing. Without it, photos with a sidecar are prepared
    by that, unless `sidecars` is False, and the others by `otherwise`; without it, their centred square is taken.
    Photos that cannot be used are left out with a note as long as others remain, unless `strict`. `faces` adds the
    embeddings of their faces.

    Raises:
        RequestError: none can be used.
        ConfigError: a mask stage without a face stage.
    """
    if mask is not None and face is None:
        raise ConfigError(f"mask={mask.name} needs to know the face; choose face=yunet or face=sidecar as well")
    beside = Preparation(AnnotatedFaces("sidecar", 1), AnnotatedMask("sidecar", 1e-9, 1.0), crop)

    def load(i: int) -> Reference:
        image = load_photo(paths[i])
        found = prepared(image, str(paths[i]), paths[i])
        return found if faces is None else faces(found, image, str(paths[i]))

    def prepared(image: Image.Image, name: str, path: Path) -> Reference:
        if face is not None:
            return prepare_photo(image, Preparation(face, mask, crop), name=name, path=path, pick=pick)
        if sidecars and path.with_suffix(".json").is_file():
            return prepare_photo(image, beside, name=name, path=path, pick=pick)
        return otherwise(image, name, path) if otherwise else Reference(square(image), None, path)

    return usable(len(paths), load, strict)


def _prepared(image: AnyPhoto, name: str, prepare: Prepare) -> Reference:
    if isinstance(image, Image.Image):
        return prepare(upright(image), name, None)
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (3, 4))):
            raise RequestError(f"{name} is a {image.dtype} array {list(image.shape)}; give uint8 [H, W, 3]")
        return prepare(Image.fromarray(image), name, None)
    if isinstance(image, str | Path):
        return prepare(load_photo(Path(image)), str(image), Path(image))
    raise RequestError(f"{name} is a {type(image).__name__}; give Pillow images, uint8 arrays [H, W, 3] or file names")


def _as_it_is(how: Preparation | None, pick: str, image: Image.Image, name: str, path: Path | None) -> Reference:
    return prepare_whole(image, how or shipped_preparation(), name=name, path=path, pick=pick)


def _drawing(image: Image.Image, name: str, path: Path | None) -> Reference:
    return prepare_drawing(image, name=name, path=path)


def _trained_on_drawings(image: Image.Image, name: str, path: Path | None) -> Reference:
    reference = _drawing(image, name, path)
    return reference if looks_drawn(flatten(image)) else replace(reference, notes=(*reference.notes, PHOTOGRAPHS))


def _photo(how: Preparation, pick: str, image: Image.Image, name: str, path: Path | None) -> Reference:
    return prepare_photo(image, how, name=name, path=path, pick=pick)


def _by_look(how: Preparation, pick: str, image: Image.Image, name: str, path: Path | None) -> Reference:
    return _drawing(image, name, path) if has_wall(flatten(image)) else _photo(how, pick, image, name, path)
