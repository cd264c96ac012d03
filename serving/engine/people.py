"""Who is on the photos of a job: one person, or several at places of their own."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from pm.errors import RequestError
from pm.sample import Person, Request
from pm.sample.people import everyone
from pm.sample.references import Reference
from pm.sample.usable import values_kept
from serving.jobs import IDENTITY, REGION, Job, Photo


def identity_of(job: Job, photos: Sequence[Photo]) -> dict[str, Any]:
    """Fields of `Request` for the ID photos, and where each of several people is."""
    images = [Image.fromarray(photo.pixels) for photo in photos if photo.use == IDENTITY]
    if not job.people:
        return {"id_images": images, "weights": job.weights}
    regions: list[Any] = [Image.fromarray(photo.pixels) for photo in photos if photo.use == REGION]
    people, start = [], 0
    for each, region in zip(job.people, regions or [None] * len(job.people), strict=True):
        end = start + each.photos
        weights = None if job.weights is None else job.weights[start:end]
        people.append(Person(images[start:end], weights=weights, box=each.box, region=region))
        start = end
    return {"people": people}


def images_of(request: Request) -> list[Image.Image]:
    """The ID photos of all people, one after another."""
    return [image for person in everyone(request) for image in person.id_images]


def with_usable(request: Request, references: Sequence[Reference]) -> Request:
    """The request with those of its photos that can be used, and what belongs to each.

    Raises:
        RequestError: a person has none.
    """
    kept = [reference.index for reference in references]
    if not request.people:
        weights = values_kept("weights", request.weights, references, len(request.id_images))
        return replace(request, id_images=[request.id_images[i] for i in kept], weights=weights)
    people, start = [], 0
    for number, person in enumerate(request.people, 1):
        count = len(person.id_images)
        mine = [i - start for i in kept if start <= i < start + count]
        if not mine:
            why = "; ".join(dict.fromkeys(note for reference in references for note in reference.notes))
            raise RequestError(
                f"person {number}: none of their photos can be used ({why}); use others, or preprocess=none"
            )
        weights = None if person.weights is None else [person.weights[i] for i in mine]
        people.append(replace(person, id_images=[person.id_images[i] for i in mine], weights=weights))
        start += count
    return replace(request, people=people)


def split(request: Request, embeds: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """What is known of all photos, as [N, ...] of each person."""
    stack = torch.stack(list(embeds))
    return torch.split(stack, [person.references for person in request.people]) if request.people else (stack,)


def with_embeds(request: Request, known: Sequence[Tensor]) -> Request:
    """The request with what `split` made, instead of its photos."""
    if not request.people:
        return replace(request, id_images=(), id_embeds=known[0])
    people = [replace(p, id_images=(), id_embeds=each) for p, each in zip(request.people, known, strict=True)]
    return replace(request, people=people)


def about_people(job: Job) -> dict[str, object]:
    """What a picture says of its people."""
    if not job.people:
        return {}
    shown = (f"{each.photos} photos ({_place(each.box)})" for each in job.people)
    return {"people": "; ".join(shown)}


def _place(box: Any) -> Any:
    return "region or found" if box is None else box if isinstance(box, str) else list(box)
