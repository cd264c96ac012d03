"""The toon suite: held-out people of the toon world with drawn photos, whose truth is known; and true drawings."""

import dataclasses
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
from annotated_types import Ge, Le

from pm.errors import ConfigError
from pm.evaluate.suites.base import PLACE, Given, Photo, SuiteChoice, Trial
from pm.model.config import BaseConfig
from pm.model.files import read_json
from pm.photo.pixels import encode_png
from pm.toon import captions
from pm.toon.attributes import Framing, Identity, Scene
from pm.toon.covers import NOTHING, covers, seen_attributes, tight
from pm.toon.identities import framing, identities, scene
from pm.toon.looks import LOOKS, look
from pm.toon.render import render_photo


@dataclass(frozen=True)
class Shown:
    """What a reference photo happens to show."""

    attributes: Mapping[str, str]  # all that can be seen, by name
    frame: Framing


@dataclass(frozen=True)
class ToonFacts:
    """What a trial's pictures should show. `omitted` is what the prompt leaves open, so that diversity can show."""

    identity: Identity
    scene: Scene
    omitted: frozenset[str]
    references: tuple[Shown, ...] = field(default=(), compare=False)  # of each reference photo
    other: Identity | None = None  # whose photos are mixed with the person's

    @property
    def prompted(self) -> dict[str, str]:
        return captions.prompted(self.scene, self.omitted)


@dataclass(frozen=True)
class ToonSuite(SuiteChoice):
    """Every number of people, photos and prompts; the people appear in no training."""

    # Of the references: probability of each thing that hides a part of the person.
    occlusion: Annotated[float, Ge(0), Le(1)] = field(kw_only=True)
    look: str | None = field(default=None, kw_only=True)  # of the references: one of `pm.toon.looks.LOOKS`

    def title(self) -> str:
        return "Evaluation on the toon world"

    def about(self) -> dict:
        """What makes two reports comparable; reports of versions that hid nothing say nothing of it."""
        hides = {"occlusion": self.occlusion} if self.occlusion else {}
        return super().about() | hides | ({"look": self.look} if self.look else {})

    def check(self, base: BaseConfig) -> None:
        """Refuse a base of photographs, whose portraits are nobody of the toon world.

        A base of the toon world says so in its `model_index.json`, or, from versions before 0.2, has its probe beside
        it.
        """
        if self.look is not None and self.look not in LOOKS:
            raise ConfigError(f"suite.look={self.look} is not one of {', '.join(LOOKS)}; null is a plain photo")
        folder = Path(base.path).expanduser()
        if folder.is_dir():
            index = read_json(folder / "model_index.json")
            if index.get("_drawn") or (folder / "probe.safetensors").exists():
                return
        raise ConfigError(
            f"base.path={base.path} is no base of the toon world, and suite=toon asks for its people; use "
            "suite=photos, base=toon, or a base that python -m pm.toon.pretrain made"
        )

    def trials(self) -> list[Trial]:
        config, trials = self.protocol, []
        for p, person in enumerate(identities(config.identities, config.seed, "eval")):
            rng = random.Random(f"trial:{config.seed}:{p}")
            name = f"{p:03d}_{person.class_word}"
            photos, shown = self.references(person, rng, p, name)
            held_out = _held_out(person, config.seed, p, config.size, name)
            for k in range(config.prompts):
                omitted, category = self.left_open(k)
                seeds = tuple(rng.getrandbits(31) for _ in range(config.images))
                facts = ToonFacts(person, self.view(rng, omitted), omitted, shown)
                template = captions.describe(PLACE, facts.scene, None, omitted)
                trials.append(Trial(name, person.class_word, template, photos, held_out, seeds, category, facts))
        return trials

    def left_open(self, number: int) -> tuple[frozenset[str], str]:
        """What the prompt of this number leaves unsaid, of `captions.OMITTABLE`, and its category."""
        return frozenset({("mouth", "background")[number % 2]}), ""

    def view(self, rng: random.Random, omitted: frozenset[str]) -> Scene:
        """What a prompt asks for, as far as it is not left open."""
        return scene(rng)

    def references(
        self, person: Identity, rng: random.Random, number: int, name: str, count: int | None = None
    ) -> tuple[tuple[Photo, ...], tuple[Shown, ...]]:
        """Photos of a person, and what they show.

        Args:
            person: whom.
            rng: draws what varies.
            number: of the person, which draws what hides parts of them.
            name: of the person, before those of the photos.
            count: of the photos; None: as many as the protocol has at most.
        """
        config = self.protocol
        hiding = random.Random(f"covers:{config.seed}:{number}") if self.occlusion else None
        photos, seen = [], []
        for i in range(count or max(config.references)):
            photo, shown = _photo(person, rng, config.size, f"{name}/{i}", hiding, self.occlusion)
            if self.look is not None:
                photo = dataclasses.replace(photo, image=look(photo.image, self.look, 1000 * number + i))
            photos.append(photo)
            seen.append(shown)
        return tuple(photos), tuple(seen)

    def given(self, trials: Sequence[Trial]) -> list[Given]:
        """The same people drawn by the toon world itself with the prompted attributes; what a prompt leaves open is
        drawn at random."""

        def png(trial: int, image: int) -> bytes:
            rng = random.Random(trials[trial].seeds[image])
            return encode_png(_drawing(trials[trial].facts, rng, self.protocol.size))

        return [Given(CEILING, "toon world", png)]


CEILING = "drawn by the toon world (ceiling)"
HELD_OUT = 2  # photos of a person beside the references


def _held_out(person: Identity, seed: int, number: int, size: int, name: str) -> tuple[Photo, ...]:
    rng = random.Random(f"held out:{seed}:{number}")  # of its own: the trials stay those of earlier versions
    return tuple(_photo(person, rng, size, f"{name}/held_out/{i}")[0] for i in range(HELD_OUT))


def _photo(
    person: Identity, rng: random.Random, size: int, name: str, hiding: random.Random | None = None, share: float = 0.0
) -> tuple[Photo, Shown]:
    """A random photo; parts of the person are hidden by draws from `hiding`, of its own: the rest is what it was."""
    view, frame, over = scene(rng), framing(rng), NOTHING
    if hiding is not None:
        frame, over = tight(hiding, share, frame), covers(hiding, share)
    drawn = render_photo(person, view, frame, size, over)
    return Photo(drawn.image, drawn.mask >= 128, name), Shown(seen_attributes(person, view, over, frame), frame)


def _drawing(facts: ToonFacts, rng: random.Random, size: int) -> np.ndarray:
    other = scene(rng)
    view = dataclasses.replace(facts.scene, **{k: getattr(other, k) for k in facts.omitted})
    return render_photo(facts.identity, view, framing(rng), size).image
