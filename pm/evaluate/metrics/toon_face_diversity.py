"""Toon Face Div.: as Face Div., by the SqueezeNet distance of where portraits have the face. For drawings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pm.evaluate.metrics.squeezenet_face_diversity import SqueezenetFaceDiversity


@dataclass(frozen=True)
class ToonFaceDiversity(SqueezenetFaceDiversity):
    """One value per trial; none with fewer than two pictures."""

    title: ClassVar[str] = "toon Face Div."
