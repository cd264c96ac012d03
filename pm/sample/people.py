"""Several people in one picture: whose photos, and where on the picture each of them is."""

import math
import numbers
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pm.errors import RequestError
from pm.model.regions import shrunk
from pm.photo.pixels import flatten
from pm.sample.pictures import check_image, first_step, size_of

if TYPE_CHECKING:
    from pm.model.base import BaseModel
    from pm.model.conditioning import Conditioning
    from pm.sample.request import Request

FIND_FRACTION = 0.2  # of the steps at least see the text alone where people are to be found; the paper's merge step
COLUMNS, ROWS = ("left", "middle", "right"), ("top", "bottom")
_MOST = 99  # triggers have two digits
_OVERLAP = 0.01  # of the smaller place: masks drawn by hand touch each other
_ASPECT_TOLERANCE = 0.02
_OWN = ("id_images", "masks", "weights", "id_embeds", "face_embeds")  # of a person, and of a request without people


@dataclass(frozen=True)
class Person:
    """One person of a picture, from 1 in the order of `Request.people`; the prompt's `img`, `img2`, `img3`, ...

    The photos are as in `Request`. `box` or `region` says where the person is on the picture; without either for all,
    the places are found.
    """

    id_images: Sequence[Image.Image] = ()
    masks: Sequence[Image.Image | None] | None = None  # of the photos: white = the person
    weights: Sequence[float] | None = None
    id_embeds: Tensor | None = field(default=None, compare=False)  # [N, ...]
    face_embeds: Tensor | None = field(default=None, compare=False)  # [N, E]
    # left, top, right, bottom: pixels of the picture, or shares of it where none is above 1; or left, middle, right
    # (columns: halves, or thirds where one is in the middle), top, bottom.
    box: Sequence[float] | str | None = None
    region: Image.Image | None = None  # white = where the person is; of the picture's shape, in any size

    @property
    def references(self) -> int:
        """ID images, encoded or not."""
        return len(self.id_images) if self.id_embeds is None else self.id_embeds.shape[0]

    @property
    def placed(self) -> bool:
        """Whether it is said where the person is."""
        return self.box is not None or self.region is not None


def everyone(request: "Request") -> Sequence[Person]:
    """The people of a request; where it has one set of photos, the one person of these."""
    return request.people or (Person(**{name: getattr(request, name) for name in _OWN}),)


@contextmanager
def named(number: int, request: "Request") -> Iterator[None]:
    """Errors inside say which of several people they are about."""
    try:
        yield
    except RequestError as error:
        if not request.people:
            raise
        raise RequestError(f"person {number}: {error}") from None


def localised(request: "Request") -> bool:
    """Whether each person of a request acts at a place of their own."""
    return len(request.people) > 1 or any(person.placed for person in request.people)


def looked_for(request: "Request") -> bool:
    """Whether the places of people are to be found."""
    return localised(request) and not any(person.placed for person in request.people)


def merge_step_for(request: "Request", usual: int) -> int:
    """First step of a request that sees the identities: what it says, or the `usual` one; but people who are to be
    found are looked for in a fifth of the steps at least, which see the text alone."""
    if request.merge_step is not None:
        own = request.merge_step
    else:
        own = usual if request.id_start is None else round(request.id_start * request.steps)
    return max(own, 1, round(FIND_FRACTION * request.steps)) if looked_for(request) else own


def check_people(request: "Request") -> None:
    """Refuse people that need no base to be refused.

    Raises:
        RequestError: names the first thing, and whose it is.
    """
    people: Any = request.people
    if not isinstance(people, list | tuple) or not all(isinstance(each, Person) for each in people):
        raise RequestError(f"people must be a list of Person, not {people!r:.60}")
    if not people:
        return
    beside = [name for name in _OWN if getattr(request, name) is not None and len(getattr(request, name))]
    if beside:
        raise RequestError(f"{', '.join(beside)} given beside people; each person has their own")
    if len(people) > _MOST:
        raise RequestError(f"{len(people)} people given; a prompt can name up to {_MOST}")
    if request.text is not None:
        raise RequestError("prompt_embeds stand for a prompt of one person; give people= with the prompt itself")
    for number, person in enumerate(people, 1):
        if person.box is not None and person.region is not None:
            raise RequestError(f"person {number} has both box and region; give one of them")
    without = [str(number) for number, person in enumerate(people, 1) if not person.placed]
    if without and len(without) < len(people):
        raise RequestError(
            f"person {', '.join(without)} has no place, and others have; give box or region for each, or for none"
        )


def check_photos(person: Person, max_id_images: int | None) -> None:
    """Check the photos of one person; `max_id_images`: N_max of the adapter, None: there is none.

    Raises:
        RequestError: too few, too many, or with values that are not one for each.
    """
    count = person.references
    if person.id_embeds is not None and (person.id_images or person.masks):
        raise RequestError("both id_images and id_embeds are given; give one of them")
    if max_id_images is None:
        if count:
            raise RequestError(f"{count} ID images given but no adapter is in use; load or name one")
    elif not 1 <= count <= max_id_images:
        raise RequestError(f"{count} ID images given; this adapter takes 1 to {max_id_images}")
    faces: Any = person.face_embeds
    if faces is not None and not (isinstance(faces, Tensor) and faces.ndim == 2 and faces.is_floating_point()):
        raise RequestError(f"face_embeds={faces!r:.100} must be a tensor of floats [N, E], a row for each ID image")
    if faces is not None and person.id_embeds is not None:
        raise RequestError("both face_embeds and id_embeds are given, which hold the faces already; give one of them")
    for name in ("masks", "weights", "face_embeds"):
        values = getattr(person, name)
        if values is not None and len(values) != count:
            raise RequestError(f"{len(values)} {name} given for {count} ID images; give one for each, or none")
    for weight in person.weights or ():
        if not (math.isfinite(weight) and weight >= 0):
            raise RequestError(f"weight {weight} of an ID image must be 0 or more; 1 is neutral")


def check_places(request: "Request", base: "BaseModel", merge_step: int) -> None:
    """Refuse places that cannot be on a request's picture; `merge_step`: its first step that sees the identities.

    Raises:
        RequestError: names the person.
    """
    if not localised(request):
        return
    if any(person.placed for person in request.people):
        width, height = size_of(request, base.shapes)
        places(request, (width, height), base.vae_scale_factor)
    elif first_step(request) >= merge_step:
        raise RequestError(
            f"no step sees the text alone where {len(request.people)} people could be found: the picture to change "
            f"begins at step {first_step(request)} of {request.steps}; give each a box or region, or more strength"
        )


def located(conditioning: "Conditioning", request: "Request", size: tuple[int, int], factor: int) -> "Conditioning":
    """A row's conditioning with the places that its request gives; people that are to be found stay without.

    Args:
        conditioning: B = 1, with its tokens' owners.
        request: checked.
        size: width, height of the picture in pixels.
        factor: pixels per latent, along a side.
    """
    if conditioning.regions is None:
        return conditioning
    known = any(person.placed for person in request.people)
    shape = (1, len(request.people), size[1] // factor, size[0] // factor)
    maps = places(request, size, factor) if known else torch.zeros(shape, dtype=torch.bool)
    return replace(conditioning, regions=replace(conditioning.regions, maps=maps.to(conditioning.embeds.device)))


def places(request: "Request", size: tuple[int, int], factor: int) -> Tensor:
    """Where each person is, bool [1, P, h, w] of the latents, from what the request gives for all of them.

    Raises:
        RequestError: outside the picture, too small, or over another person.
    """
    drawn = [_drawn(number, person, request, size) for number, person in enumerate(request.people, 1)]
    for second, other in enumerate(drawn):
        for first, mine in enumerate(drawn[:second]):
            both = int((mine & other).sum())
            if both > _OVERLAP * min(mine.sum(), other.sum()):
                raise RequestError(
                    f"the places of person {first + 1} and person {second + 1} overlap by {both} of {mine.sum()} "
                    "pixels; draw them apart"
                )
    maps = shrunk(torch.from_numpy(np.stack(drawn))[None], (size[1] // factor, size[0] // factor))
    for number, found in enumerate(maps[0].flatten(1).any(1).tolist(), 1):
        if not found:
            raise RequestError(
                f"the place of person {number} is smaller than {factor} pixels a side; give a larger one"
            )
    return maps


def _drawn(number: int, person: Person, request: "Request", size: tuple[int, int]) -> np.ndarray:
    """bool [H, W], of the picture's pixels."""
    width, height = size
    if person.region is not None:
        check_image(f"region of person {number}", person.region)
        own = person.region.width / person.region.height
        if abs(own / (width / height) - 1) > _ASPECT_TOLERANCE:
            raise RequestError(
                f"region of person {number} has {person.region.width} x {person.region.height} pixels, the picture "
                f"{width} x {height}; give a mask of that shape"
            )
        mask = flatten(person.region).convert("L").resize(size, Image.Resampling.BILINEAR)
        white = np.asarray(mask) >= 128
        if not white.any():
            raise RequestError(f"region of person {number} is black; the person is where it is white")
        return white
    left, top, right, bottom = _pixels(number, person.box, request, size)
    drawn = np.zeros((height, width), dtype=bool)
    drawn[top:bottom, left:right] = True
    return drawn


def _pixels(number: int, box: Any, request: "Request", size: tuple[int, int]) -> tuple[int, int, int, int]:
    width, height = size
    if isinstance(box, str):
        box = _named(number, box, request)
    try:
        values = [float(value) for value in box]
        fine = len(values) == 4 and all(map(math.isfinite, values)) and all(_is_number(value) for value in box)
    except (TypeError, ValueError):
        fine = False
    if not fine:
        raise RequestError(
            f"box={box!r:.60} of person {number} must be left, top, right, bottom in pixels or shares of the picture, "
            f"or one of {', '.join((*COLUMNS, *ROWS))}"
        )
    if max(values) <= 1:
        values = [value * side for value, side in zip(values, (width, height) * 2, strict=True)]
    left, top, right, bottom = (round(value) for value in values)
    shown = f"box={list(box)} of person {number}"
    if right <= left or bottom <= top:
        raise RequestError(f"{shown} is empty; give left, top, right, bottom")
    if left < 0 or top < 0 or right > width or bottom > height:
        raise RequestError(f"{shown} reaches beyond the picture of {width} x {height} pixels; draw it inside")
    return left, top, right, bottom


def _named(number: int, name: str, request: "Request") -> tuple[float, float, float, float]:
    """Shares of the picture."""
    word = name.strip().casefold()
    if word in ROWS:
        return (0, 0, 1, 0.5) if word == "top" else (0, 0.5, 1, 1)
    if word not in COLUMNS:
        raise RequestError(f"box={name!r:.60} of person {number} is not one of {', '.join((*COLUMNS, *ROWS))}")
    used = {str(person.box).strip().casefold() for person in request.people}
    columns = COLUMNS if "middle" in used else (COLUMNS[0], COLUMNS[-1])
    first = columns.index(word)
    return first / len(columns), 0, (first + 1) / len(columns), 1


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
