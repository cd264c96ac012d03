"""Photos and their weights as the published interface takes them: for all prompts, or a list for each."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pm.errors import RequestError
from pm.sample.faces import face_embeds
from pm.sample.people import Person
from pm.sample.references import Reference
from pm.sample.usable import values_kept

_log = logging.getLogger("pm.sample.published")


@dataclass(frozen=True)
class PromptPhotos:
    """The photos of one prompt: those that can be used, and how many were given."""

    references: list[Reference]
    given: int
    face_embeds: Tensor | None = None  # [N, E], of the faces on them, for adapters that take them


def photos_of(photos: Any, count: int, prepare: Callable[[Any], list[Reference]]) -> list[PromptPhotos]:
    """The photos of each of `count` prompts, prepared; notes are logged."""
    if photos is None:
        return [PromptPhotos([], 0)] * count
    if not isinstance(photos, list | tuple):
        photos = [photos]
    many = [isinstance(one, list | tuple) for one in photos]
    if any(many) and not all(many):
        raise RequestError("input_id_images has photos beside lists of photos; give one list for each prompt")
    sets = photos if any(many) else [photos]
    prepared = [PromptPhotos(prepare(one), len(one)) for one in sets]
    _say(prepared)
    return prepared if sets is photos else prepared * count


def people_of(people: Any, prepare: Callable[..., list[Reference]]) -> list[Person]:
    """Several people with their photos prepared, unless these come with masks or as embeddings; notes are logged.

    Raises:
        RequestError: they are no people, or a person has no photo that can be used.
    """
    if not isinstance(people, list | tuple) or not all(isinstance(each, Person) for each in people):
        raise RequestError(f"people must be a list of Person, not {people!r:.60}")
    found = []
    for person in people:
        if person.masks is not None or person.id_embeds is not None:
            found.append(person)
            continue
        references = prepare(person.id_images, read_faces=person.face_embeds is None)
        ready = PromptPhotos(references, len(person.id_images))
        (ready,) = with_faces([ready], None if person.face_embeds is None else [person.face_embeds])
        _say([ready])
        shown = {
            "id_images": [reference.image for reference in ready.references],
            "masks": [reference.mask for reference in ready.references],
        }
        weights = values_kept("weights", person.weights, ready.references, ready.given)
        found.append(replace(person, face_embeds=ready.face_embeds, weights=weights, **shown))
    return found


def _say(prepared: list[PromptPhotos]) -> None:
    for note in dict.fromkeys(note for one in prepared for reference in one.references for note in reference.notes):
        _log.warning(note)


def with_faces(people: list[PromptPhotos], embeds: Any) -> list[PromptPhotos]:
    """The photos of each prompt with the embeddings of their faces: read from them, or given.

    Args:
        people: for each prompt.
        embeds: [N, E] for all prompts, or one such for each; None: those that `people` have.

    Raises:
        RequestError: they are no numbers, or of another number than the photos.
    """
    if embeds is None:
        read = [face_embeds(one.references) for one in people]
        return [
            replace(one, face_embeds=None if faces is None else torch.tensor(faces))
            for one, faces in zip(people, read, strict=True)
        ]
    try:
        many = [torch.as_tensor(one, dtype=torch.float32) for one in embeds]
    except (TypeError, ValueError, RuntimeError):
        raise RequestError(f"id_embeds={embeds!r:.100} must be a tensor [N, E], or one for each prompt") from None
    each = many if many and many[0].ndim == 2 else [torch.stack(many)] * len(people) if many else []
    if len(each) != len(people) or any(one.ndim != 2 for one in each):
        raise RequestError(f"id_embeds must be a tensor [N, E], or one for each of {len(people)} prompts")
    kept = [
        values_kept("id_embeds", list(faces), one.references, one.given)
        for one, faces in zip(people, each, strict=True)
    ]
    return [
        replace(one, face_embeds=torch.stack(faces) if faces else None) for one, faces in zip(people, kept, strict=True)
    ]


def weights_of(weights: Any, count: int) -> list[list[float] | None]:
    """One list for each prompt, from one for all or one for each; lists, arrays or tensors."""
    if weights is None:
        return [None] * count
    try:
        many = len(weights) > 0 and np.ndim(weights[0]) > 0
        return [[float(w) for w in one] for one in weights] if many else [[float(w) for w in weights]] * count
    except (TypeError, ValueError):
        raise RequestError(
            f"id_weights={weights!r:.100} must be a number for each photo, or such a list for each prompt"
        ) from None
