"""Toon Face Sim.: as Face Sim., by the toon world's probe on where its portraits have the face. For drawings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pm.evaluate.metrics.face_similarity import FaceSimilarity


@dataclass(frozen=True)
class ToonFaceSimilarity(FaceSimilarity):
    """One value per image: the mean cosine of what the probe makes of it and of the photos."""

    title: ClassVar[str] = "toon Face Sim."
