"""What hides a part of a person in a photo: hats, goggles, a scarf, a tight crop; and what can then not be seen.

Photos of real people hide something more often than not, which is why several of them say more than one. Covers take
the colours of hair and clothes, so that a hidden attribute is not simply an empty value, and each is drawn
independently of the others and of the person.
"""

import dataclasses
import random

from pm.toon.attributes import CLOTHES_COLORS, HAIR_COLORS, Framing, Identity, Scene, visible_attributes
from pm.toon.geometry import to_pixels

# value → avataaars `top` variant: all of them are drawn instead of the hair
HEADWEAR = {
    "sun hat": "hat",
    "headscarf": "hijab",
    "turban": "turban",
    "trapper hat": "winterHat1",
    "bobble hat": "winterHat03",
}
COLORS = HAIR_COLORS | CLOTHES_COLORS

# Boxes x0, y0, x1, y1 in drawing units; what lies less than `_SEEN` inside the photo counts as hidden.
_REGIONS = {
    "hair": (96.0, 34.0, 184.0, 96.0),
    "eyebrows": (108.0, 96.0, 172.0, 116.0),
    "eyes": (108.0, 110.0, 172.0, 124.0),
    "facial_hair": (110.0, 144.0, 170.0, 186.0),
    "mouth": (118.0, 144.0, 162.0, 164.0),
    "clothes": (80.0, 206.0, 200.0, 236.0),
}
_SEEN = 0.7


@dataclasses.dataclass(frozen=True)
class Covers:
    """What a person wears over themselves in one photo. `headwear` is a key of `HEADWEAR`, colours are of `COLORS`."""

    headwear: str | None = None
    headwear_color: str = "black"
    goggles: bool = False  # over eyes and eyebrows
    scarf_color: str | None = None  # over mouth and beard

    def __bool__(self) -> bool:
        return bool(self.headwear or self.goggles or self.scarf_color)


NOTHING = Covers()


def covers(rng: random.Random, occlusion: float) -> Covers:
    """Each cover with the probability `occlusion`, 0 to 1, independently of the others."""
    drawn = [rng.random() for _ in range(3)]
    headwear, colors = rng.choice(list(HEADWEAR)), [rng.choice(list(COLORS)) for _ in range(2)]
    return Covers(
        headwear=headwear if drawn[0] < occlusion else None,
        headwear_color=colors[0],
        goggles=drawn[1] < occlusion,
        scarf_color=colors[1] if drawn[2] < occlusion else None,
    )


def tight(rng: random.Random, occlusion: float, frame: Framing) -> Framing:
    """`frame`, or with the probability `occlusion` a close and shifted crop instead."""
    drawn, scale = rng.random(), rng.uniform(1.6, 2.0)
    x, y = rng.uniform(-0.2, 0.2), rng.uniform(-0.15, 0.35)
    return Framing(scale, x, y, frame.rotation) if drawn < occlusion else frame


def seen_attributes(
    identity: Identity, scene: Scene, over: Covers = NOTHING, frame: Framing | None = None
) -> dict[str, str]:
    """All attributes that can be read from a photo, with what covers and the photo's edges leave to be seen.

    Hair colour is seen on the hair or on a beard; `class_word` only with the hair, since nothing else differs.
    """
    values = visible_attributes(identity, scene)
    hidden: set[str] = set()
    if over.headwear:
        hidden.add("hair")
    if over.goggles:
        hidden |= {"eyebrows", "eyes", "glasses"}
    if over.scarf_color:
        hidden |= {"facial_hair", "mouth"}
    if over.headwear == "headscarf":  # it falls over the shoulders
        hidden |= {"clothes", "clothes_color"}
    if frame is not None:
        hidden |= {name for name, box in _REGIONS.items() if _inside(box, frame) < _SEEN}
    if "hair" in hidden:
        hidden.add("class_word")
        if "facial_hair" in hidden or identity.facial_hair == "no beard":
            hidden.add("hair_color")
    if "clothes" in hidden:
        hidden.add("clothes_color")
    return {name: value for name, value in values.items() if name not in hidden}


def _inside(box: tuple[float, float, float, float], frame: Framing) -> float:
    """Share of a box of the drawing that lies inside the photo, from a grid of 8 × 8 points."""
    grid = [(i + 0.5) / 8 for i in range(8)]
    points = [(box[0] + (box[2] - box[0]) * u, box[1] + (box[3] - box[1]) * v) for u in grid for v in grid]
    places = [to_pixels(x, y, frame, 1.0) for x, y in points]
    return sum(0 <= x <= 1 and 0 <= y <= 1 for x, y in places) / len(places)
