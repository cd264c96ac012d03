"""Pictures that a request brings along to be changed: their size, their mask, and what does not go together."""

import math
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps

from pm.errors import RequestError
from pm.photo.pixels import flatten
from pm.sample.sizes import rounded

if TYPE_CHECKING:
    from pm.model.families.base import BaseShapes
    from pm.sample.request import Request

# Of the steps, where a request does not say: enough noise for another person's face on the body that is there, and all
# of it where a mask says what stays.
USUAL_STRENGTH, USUAL_STRENGTH_MASKED = 0.6, 1.0
_ASPECT_TOLERANCE = 0.02  # between a mask and its picture
_LEAST_SIDE = 8  # px


@dataclass(frozen=True, eq=False)
class PromptImages:
    """Pictures that a row attends to beside its text, through an IP-Adapter."""

    images: Sequence[Image.Image]
    scale: float = 1.0  # 0: as without; 1: as in the IP-Adapter's training
    adapter: str | None = None  # by name; None: the only IP-Adapter that is loaded


@dataclass(frozen=True)
class Picture:
    """What a row starts from."""

    image: Image.Image  # RGB
    mask: Image.Image | None  # L; white (128 or more) is drawn anew, black stays; None: everything is drawn anew


def picture_of(request: "Request") -> Picture | None:
    """The picture that a request changes, and its mask; None: it starts from noise.

    A mask says what is drawn anew in white, as diffusers has it, or by transparency, as OpenAI has it. Without a mask
    the transparent parts of the picture are drawn anew: a picture on a larger transparent canvas is outpainted.
    """
    if request.image is None:
        return None
    image, mask = request.image, request.mask_image
    if mask is None:
        return Picture(flatten(image), _clear(image))
    return Picture(flatten(image), _clear(mask) or flatten(mask).convert("L"))


def strength_of(request: "Request") -> float:
    """How much of a request's picture is drawn anew, 0 to 1: the share of the steps that are done."""
    if request.strength is not None:
        return request.strength
    masked = request.mask_image is not None or (request.image is not None and _clear(request.image) is not None)
    return USUAL_STRENGTH_MASKED if masked else USUAL_STRENGTH


def first_step(request: "Request") -> int:
    """The step a request begins with: 0, or later where it starts from a picture (SDEdit, Meng et al. 2022)."""
    if request.image is None:
        return 0
    done = min(int(request.steps * strength_of(request)), request.steps)
    return request.steps - (done if request.strength is not None else max(1, done))


def size_of(request: "Request", shapes: "BaseShapes", most: int | None = None) -> tuple[int, int]:
    """Width and height of a request's image in pixels.

    What it does not say is that of its picture: its aspect ratio, at as many pixels as the base was trained for.

    Args:
        request: the sides that it gives are rounded to multiples of what the base draws in.
        shapes: of the base.
        most: px along a side that a service draws; None: twice what the base was trained for.
    """
    own, step = shapes.latent_size * shapes.pixels_per_latent, shapes.side_multiple
    given = [None if side is None else rounded(side, step) for side in (request.width, request.height)]
    if request.image is None or None not in given:
        return own if given[0] is None else given[0], own if given[1] is None else given[1]
    aspect = request.image.width / request.image.height
    if request.width is not None:
        width, height = float(request.width), request.width / aspect
    elif request.height is not None:
        width, height = request.height * aspect, float(request.height)
    else:
        width, height = own * math.sqrt(aspect), own / math.sqrt(aspect)
    limit = (most or 2 * own) // step * step
    sides = [min(limit, max(step, round(side / step) * step)) for side in (width, height)]
    return sides[0] if given[0] is None else given[0], sides[1] if given[1] is None else given[1]


def fitted(picture: Picture, size: tuple[int, int]) -> Picture:
    """Scaled to cover `size` (width, height), and its middle cut out; the mask likewise, black or white."""
    image = ImageOps.fit(picture.image, size, Image.Resampling.LANCZOS)
    if picture.mask is None:
        return Picture(image, None)
    mask = picture.mask.resize(picture.image.size, Image.Resampling.BILINEAR)
    mask = ImageOps.fit(mask, size, Image.Resampling.BILINEAR)
    return Picture(image, mask.point([0] * 128 + [255] * 128))


def fitting_note(name: str, image: Image.Image, size: tuple[int, int]) -> str | None:
    """What the user should know of a picture that is drawn at `size` (width, height); None: nothing was done to it."""
    if image.size == size:
        return None
    scale = max(side / own for side, own in zip(size, image.size, strict=True))
    covered = [round(own * scale) for own in image.size]
    cut = any(abs(c - side) > 1 for c, side in zip(covered, size, strict=True))
    done = "scaled, and its middle cut out" if cut else "scaled"
    return f"{name} of {image.width} x {image.height} pixels was {done}: {size[0]} x {size[1]}"


def notes_of(request: "Request", size: tuple[int, int]) -> list[str]:
    """What the user should know of a request's pictures, drawn at `size`."""
    if request.image is None:
        return []
    notes = [fitting_note("image", request.image, size)]
    if request.mask_image is None and _clear(request.image) is not None:
        notes.append("image has transparent parts: they are drawn anew, the rest stays")
    return [note for note in notes if note]


def check_pictures(request: "Request") -> None:
    """Refuse what a request says of its picture and that cannot be.

    Raises:
        RequestError: names the first thing.
    """
    if request.image is None:
        for name in ("mask_image", "strength"):
            if getattr(request, name) is not None:
                raise RequestError(f"{name} is of the picture to change, and none is given; give image, too")
        return
    check_image("image", request.image)
    if request.strength is not None:
        check_share("strength", request.strength)
    if first_step(request) >= request.steps:
        raise RequestError(
            f"strength={request.strength} of {request.steps} steps is less than one step; use "
            f"{math.ceil(1000 / request.steps) / 1000:g} or more"
        )
    if request.mask_image is not None:
        check_image("mask_image", request.mask_image)
        aspects = [image.width / image.height for image in (request.image, request.mask_image)]
        if abs(aspects[0] / aspects[1] - 1) > _ASPECT_TOLERANCE:
            sizes = [f"{image.width} x {image.height}" for image in (request.mask_image, request.image)]
            raise RequestError(f"mask_image has {sizes[0]} pixels, its image {sizes[1]}; give a mask of that size")
    picture = picture_of(request)
    if picture is not None and picture.mask is not None and np.asarray(picture.mask).max() < 128:
        raise RequestError(
            "mask_image is black and opaque: nothing would be drawn; what shall be drawn anew is white, or transparent"
        )


def check_image(name: str, image: Any) -> None:
    """Refuse what is no usable picture.

    Raises:
        RequestError: no Pillow image, smaller than 8 pixels, or cut short.
    """
    if not isinstance(image, Image.Image):
        raise RequestError(f"{name} is a {type(image).__name__}; give a Pillow image")
    if min(image.size) < _LEAST_SIDE:
        raise RequestError(f"{name} has {image.width} x {image.height} pixels; give {_LEAST_SIDE} a side at least")
    try:
        image.load()
    except (OSError, SyntaxError, ValueError) as error:
        raise RequestError(f"{name} cannot be read ({error}); give a whole picture") from error


def check_share(name: str, value: Any) -> None:
    """Refuse what is no number from 0 to 1.

    Raises:
        RequestError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not 0 <= float(value) <= 1:
        raise RequestError(f"{name}={value!r} must be a number from 0 to 1")


def about_start(request: "Request", names: Mapping[str, str] | None = None) -> dict[str, object]:
    """What a picture's file says of how it was started; `names`: of `image` and `mask_image`."""
    if request.image is None:
        return {}
    given = {key: value for key, value in (names or {}).items() if value}
    return given | {"strength": strength_of(request)}


def _clear(image: Image.Image) -> Image.Image | None:
    """White where `image` is transparent; None: it is nowhere."""
    if image.mode not in ("RGBA", "LA", "PA", "RGBa", "La") and "transparency" not in image.info:
        return None
    alpha = np.asarray(image.convert("RGBA"))[..., 3]
    return Image.fromarray(np.where(alpha < 128, 255, 0).astype(np.uint8)) if (alpha < 128).any() else None
