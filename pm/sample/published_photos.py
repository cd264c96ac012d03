"""Photos and their weights as the published interface takes them: for all prompts, or a list for each."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pm.errors import RequestError
from pm.sample.references import Reference

_log = logging.getLogger("pm.sample.published")


@dataclass(frozen=True)
class PromptPhotos:
    """The photos of one prompt: those that can be used, and how many were given."""

    references: list[Reference]
    given: int


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
    for note in dict.fromkeys(note for one in prepared for reference in one.references for note in reference.notes):
        _log.warning(note)
    return prepared if sets is photos else prepared * count


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
