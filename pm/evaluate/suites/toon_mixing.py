"""Two people of the toon world in one portrait: each trial has the photos of both, for `method=mixing`."""

import dataclasses
import random
from dataclasses import dataclass

from pm.errors import ConfigError
from pm.evaluate.suites.base import Trial
from pm.evaluate.suites.toon import ToonSuite
from pm.toon.attributes import IDENTITY_ATTRIBUTES, Identity


@dataclass(frozen=True)
class ToonMixingSuite(ToonSuite):
    """The trials of the toon suite; half of the references are the person's, the others of somebody of the same class
    word who differs from them in as many traits as anybody of the protocol does."""

    def title(self) -> str:
        return "Mixing people of the toon world"

    def trials(self) -> list[Trial]:
        most = max(self.protocol.references)
        if most % 2 or self.protocol.identities < 4:
            raise ConfigError(
                f"suite=toon_mixing needs an even number in protocol.references (found {most}) and at least 4 people "
                "in protocol.identities"
            )
        plain, mixed = super().trials(), []
        people = {trial.person: trial.facts.identity for trial in plain}
        photos = {trial.person: (trial.references, trial.facts.references) for trial in plain}
        for trial in plain:
            other = partner(trial.person, people)
            (own, shown), (theirs, also) = photos[trial.person], photos[other]
            half = most // 2
            facts = dataclasses.replace(trial.facts, other=people[other], references=(*shown[:half], *also[:half]))
            mixed.append(dataclasses.replace(trial, references=(*own[:half], *theirs[:half]), facts=facts))
        return mixed


def partner(name: str, people: dict[str, Identity]) -> str:
    """Who is mixed with somebody: of the same class word, with most traits that differ; among equals, by lot.

    Raises:
        ConfigError: nobody else has the class word.
    """
    own = people[name]
    others = [each for each in people if each != name and people[each].class_word == own.class_word]
    if not others:
        raise ConfigError(f"nobody else of the protocol is a {own.class_word}; raise protocol.identities")
    random.Random(f"partner:{name}").shuffle(others)
    return max(others, key=lambda each: len(differing(own, people[each])))


def differing(one: Identity, other: Identity) -> tuple[str, ...]:
    """Names of the identity attributes in which two people differ."""
    return tuple(name for name in IDENTITY_ATTRIBUTES if getattr(one, name) != getattr(other, name))
