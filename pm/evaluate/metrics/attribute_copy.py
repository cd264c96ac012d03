"""Attributes copied: how often a drawing repeats the references' mouth, wall, clothes or framing, beyond chance.

As the copy-paste measure of WithAnyone (Xu et al. 2025), but exact: in the toon world it is known what each reference
shows, and how likely another random photo would have shown the same.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, ClassVar

import numpy as np
from annotated_types import Gt, Lt

from pm.evaluate.metrics.base import Measured, Metric, MetricChoice, Pictures
from pm.evaluate.models.probe import ProbeMetric, Reading
from pm.methods.trial import Trial
from pm.toon.attributes import PHOTO_ATTRIBUTES, Framing, Identity
from pm.toon.identities import framing
from pm.toon.placing import apart, framing_of, upright

ATTRIBUTES = ("mouth", "background", "clothes", "clothes_color")  # those whose values are equally likely in photos
FRAMING = "framing"
_FRAMINGS = 4000  # random ones that the chance to be near one is counted on
_WIDEST = 1.35  # scale; closer ones are tight crops, which stand for themselves


@dataclass(frozen=True)
class AttributeCopy(MetricChoice):
    """One value per image: mean over attributes of 1 where it repeats a reference and 0 where not, minus the chance of
    that. 0: as another photo of the person would; above: it copies. Only what the prompt leaves open counts, and what
    it says otherwise than all references; what it asks for as a reference shows it says nothing. The rates and their
    chances are in the table of attributes. The references are all that the protocol has at most."""

    probe: str  # file
    tolerance: Annotated[float, Gt(0), Lt(1)]  # of a framing that is taken for a reference's, as a share of the side

    title: ClassVar[str] = "attributes copied"
    higher_is_better: ClassVar[bool] = False

    def load(self, device: str) -> Metric:
        return _AttributeCopy(self.probe, device, self.tolerance)


class _AttributeCopy(ProbeMetric):
    def __init__(self, path: str, device: str, tolerance: float) -> None:
        super().__init__(path, device)
        self._tolerance = tolerance

    def measure(self, batch: Sequence[Pictures]) -> list[Measured]:
        readings = iter(self._read([image for pictures in batch for image in pictures.images]))
        found = []
        for pictures in batch:
            facts, mine = pictures.trial.facts, [next(readings) for _ in pictures.images]
            shown = () if facts is None else facts.references
            values = [self._one(facts, *each) for each in zip(mine, pictures.images, strict=True)] if shown else []
            found.append(_measured(values))
        return found

    def judge(self, trial: Trial, readings: Sequence[Reading]) -> Measured:
        """Without framings, which are read from pixels."""
        facts = trial.facts
        return _measured([copied_by(r, facts.prompted, [s.attributes for s in facts.references]) for r in readings])

    def _one(self, facts: Any, reading: Reading, image: np.ndarray) -> dict[str, tuple[float, float]]:
        found = copied_by(reading, facts.prompted, [shown.attributes for shown in facts.references])
        frame = framing_of(image, Identity(**{field.name: reading[field.name] for field in fields(Identity)}))
        others = [upright(shown.frame) for shown in facts.references if shown.frame.scale <= _WIDEST]
        if frame is not None and others:
            hit = any(apart(frame, other) <= self._tolerance for other in others)
            found[FRAMING] = float(hit), repeated(_nearness(frame, self._tolerance), len(others))
        return found


def copied_by(
    reading: Reading, prompted: Mapping[str, str], references: Sequence[Mapping[str, str]]
) -> dict[str, tuple[float, float]]:
    """Whether a picture repeats a reference, and the chance of that, by attribute.

    For a picture that does not depend on the references the two are equal on average, whatever else it depends on:
    the chance is that of as many random photos to show what the picture shows.

    Args:
        reading: what the picture shows.
        prompted: what was asked for.
        references: what can be seen in each.
    """
    found = {}
    for name in ATTRIBUTES:
        seen = [shown[name] for shown in references if name in shown]
        asked, values = prompted.get(name), len(PHOTO_ATTRIBUTES[name])
        if not seen or asked in seen:
            continue
        others = values - (asked is not None)  # the references are known to show something else than what was asked
        chance = 0.0 if reading[name] == asked else repeated(1 / others, len(seen))
        found[name] = float(reading[name] in seen), chance
    return found


def repeated(share: float, photos: int) -> float:
    """The chance that one of so many independent photos shows what a `share` of all photos shows."""
    return 1.0 - (1.0 - share) ** photos


def _measured(pairs: Sequence[Mapping[str, tuple[float, float]]]) -> Measured:
    each: dict[str, list[float]] = {}
    for pair in pairs:
        for name, (hit, chance) in pair.items():
            each.setdefault(f"{name} copied", []).append(hit)
            each.setdefault(f"{name} by chance", []).append(chance)
    values = [float(np.mean([hit - chance for hit, chance in pair.values()])) for pair in pairs if pair]
    return Measured(values, per_attribute=each)


@functools.cache
def _random_framings() -> list[Framing]:
    rng = random.Random("framings")
    return [upright(framing(rng)) for _ in range(_FRAMINGS)]


def _nearness(frame: Framing, tolerance: float) -> float:
    """Share of random framings that are near one."""
    near: Any = [apart(frame, other) <= tolerance for other in _random_framings()]
    return float(np.mean(near))
