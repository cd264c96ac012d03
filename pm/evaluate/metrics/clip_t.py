"""CLIP-T: how well a picture fits its prompt, by CLIP (paper section 4.1; Radford et al. 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from pm.evaluate.metrics.base import Measured, Metric, MetricChoice, Pictures
from pm.evaluate.models.clip import Clip, load_clip


@dataclass(frozen=True)
class ClipT(MetricChoice):
    """One value per image: the cosine of picture and prompt, which has the person in plain words ("a man")."""

    path: str  # folder or Hub id of a CLIP

    title: ClassVar[str] = "CLIP-T"

    def load(self, device: str) -> Metric:
        return PromptSimilarity(load_clip(self.path, device))


class PromptSimilarity(Metric):
    """By any CLIP."""

    def __init__(self, clip: Clip):
        self._clip, self.model = clip, clip.model

    def measure(self, batch: Sequence[Pictures]) -> list[Measured]:
        images = self._clip.images.of_each([pictures.images for pictures in batch])
        sentences = self._clip.sentences([pictures.trial.prompt(pictures.trial.subject) for pictures in batch])
        pairs = zip(images, sentences, strict=True)
        return [Measured([float(v) for v in rows @ sentence] if len(rows) else []) for rows, sentence in pairs]
