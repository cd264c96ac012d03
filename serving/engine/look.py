"""What a model would see of photos: the square around the face and the person in it, or why a photo cannot be used."""

import io
from collections.abc import Sequence
from typing import Any

from PIL import Image

from pm.errors import RequestError
from pm.photo.stored import Preparation
from pm.sample import PhotoMakerPipeline
from pm.sample.references import Reference, UnusablePhoto
from serving.jobs import Look, Photo

_SIDE = 256  # most pixels of a picture that goes to the client


def seen(pipeline: PhotoMakerPipeline, look: Look, photos: Sequence[Photo], how: Preparation) -> list[dict[str, Any]]:
    """Prepare each photo as a request with it would.

    Args:
        pipeline: with the adapter.
        look: which adapter, and how.
        photos: of people.
        how: photographs are prepared where the adapter does not say.

    Returns:
        For each photo {"usable": True, "crop": PNG, "person": PNG or None, "notes"} or {"usable": False, "reason",
        "way_out"}. `crop` is RGB, `person` RGBA: opaque where the person is.
    """
    return [_one(pipeline, look, photo, how) for photo in photos]


def _one(pipeline: PhotoMakerPipeline, look: Look, photo: Photo, how: Preparation) -> dict[str, Any]:
    try:
        (reference,) = pipeline.references(
            [photo.pixels], adapter=look.model, preprocess=look.preprocess, photo=how, pick=look.pick, strict=True
        )
    except UnusablePhoto as error:
        return {"usable": False, "reason": error.why, "way_out": error.way_out}
    except RequestError as error:
        return {"usable": False, "reason": str(error), "way_out": None}
    crop, person = _pictures(reference)
    notes = [note.removeprefix("photo 1: ") for note in reference.notes]
    return {"usable": True, "crop": crop, "person": person, "notes": notes}


def _pictures(reference: Reference) -> tuple[bytes, bytes | None]:
    crop = reference.image.convert("RGB")
    crop.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    if reference.mask is None:
        return _png(crop), None
    person = crop.copy()
    person.putalpha(reference.mask.convert("L").resize(crop.size, Image.Resampling.BILINEAR))
    return _png(crop), _png(person)


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
