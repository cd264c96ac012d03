"""The trials of the toon protocol: held-out people with reference photos, prompts and seeds; and true drawings."""

import dataclasses
import random

import numpy as np

from pm.evaluate.config import ProtocolConfig
from pm.toon import captions
from pm.toon.attributes import Identity, Scene
from pm.toon.identities import framing, identities, scene
from pm.toon.render import Photo, render_photo


@dataclasses.dataclass(frozen=True)
class Trial:
    """One prompt for one person. `omitted` is what the prompt leaves open, so that diversity can show."""

    person: Identity
    references: tuple[Photo, ...]
    scene: Scene
    omitted: frozenset[str]
    seeds: tuple[int, ...]  # one per image

    def prompt(self, trigger: str | None) -> str:
        subject = f"a {self.person.class_word}" + (f" {trigger}" if trigger else "")
        return captions.describe(subject, self.scene, None, self.omitted)

    @property
    def prompted(self) -> dict[str, str]:
        return captions.prompted(self.scene, self.omitted)


def toon_trials(config: ProtocolConfig) -> list[Trial]:
    """The fixed trials of a protocol; the same config gives the same people, photos, prompts and seeds."""
    trials = []
    for p, person in enumerate(identities(config.identities, config.seed, "eval")):
        rng = random.Random(f"trial:{config.seed}:{p}")
        photos = tuple(
            render_photo(person, scene(rng), framing(rng), config.size) for _ in range(max(config.references))
        )
        for k in range(config.prompts):
            omitted = frozenset({("mouth", "background")[k % 2]})
            seeds = tuple(rng.getrandbits(31) for _ in range(config.images))
            trials.append(Trial(person, photos, scene(rng), omitted, seeds))
    return trials


def drawings(trials: list[Trial], size: int) -> list[list[np.ndarray]]:
    """The ceiling: the same people drawn by the toon world itself with the prompted attributes; what a prompt leaves
    open is drawn at random."""
    result = []
    for trial in trials:
        images = []
        for seed in trial.seeds:
            rng = random.Random(seed)
            other = scene(rng)
            view = dataclasses.replace(trial.scene, **{k: getattr(other, k) for k in trial.omitted})
            images.append(render_photo(trial.person, view, framing(rng), size).image)
        result.append(images)
    return result
