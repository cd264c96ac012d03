"""Photographs of people on a base that knows drawings only, such as the toon base that comes with the project."""

from collections.abc import Sequence

from pm.model.base import BaseModel
from pm.sample.identity import PHOTOGRAPHS
from pm.sample.references import Reference
from pm.sample.wall import looks_drawn


def drawn_note(base: BaseModel, references: Sequence[Reference]) -> str | None:
    """What the user should know when a base of drawings gets photographs; None when it does not, or was said already.

    Preparation says it of adapters that were trained on drawings; this covers photos that are taken as they are, and
    adapters that do not say what they were trained on.
    """
    said = any(PHOTOGRAPHS in reference.notes for reference in references)
    if said or not base.drawn or all(looks_drawn(reference.image) for reference in references):
        return None
    return PHOTOGRAPHS
