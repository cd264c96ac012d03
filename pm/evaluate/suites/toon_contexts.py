"""Recontextualisation by category: prompts that say one kind of thing each and leave the rest open."""

import random
from dataclasses import dataclass

from pm.evaluate.suites.toon import ToonSuite
from pm.toon.attributes import Scene
from pm.toon.captions import OMITTABLE, prompted

# Category of the paper's prompts → what such a prompt says, of `captions.OMITTABLE`. Actions have no counterpart.
CATEGORIES = {
    "clothes": ("clothes",),
    "accessory": ("glasses",),
    "expression": ("mouth", "eyes"),
    "background": ("background",),
    "all of them": OMITTABLE,
}


@dataclass(frozen=True)
class ToonContextsSuite(ToonSuite):
    """The trials of the toon suite with a prompt of each category in turn."""

    def title(self) -> str:
        return "Recontextualisation on the toon world"

    def left_open(self, number: int) -> tuple[frozenset[str], str]:
        names = list(CATEGORIES)
        category = names[number % len(names)]
        return frozenset(OMITTABLE) - frozenset(CATEGORIES[category]), category

    def view(self, rng: random.Random, omitted: frozenset[str]) -> Scene:
        """One that there is something to say of: not no glasses where glasses alone are asked for."""
        found = super().view(rng, omitted)
        while not prompted(found, omitted):
            found = super().view(rng, omitted)
        return found
