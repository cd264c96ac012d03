"""Deterministic people, scenes and framings from a seed, and the split that keeps evaluation people unseen.

The split hashes the whole attribute combination, not a running number: two people with the same attributes look the
same, so a combination used for evaluation must appear in no training, whatever its name or seed.
"""

import dataclasses
import hashlib
import itertools
import random
from collections.abc import Iterator

from pm.errors import DataError
from pm.toon import attributes as a
from pm.toon.attributes import Framing, Identity, Scene

EVAL_SHARE = 10  # one combination in ten is kept for evaluation
SPLITS = ("train", "eval")


def all_identities() -> Iterator[Identity]:
    """Every possible person, in a fixed order (women have no facial hair)."""
    for word, hairs, beards in (("man", a.MEN_HAIR, a.FACIAL_HAIR), ("woman", a.WOMEN_HAIR, ("no beard",))):
        for hair, color, skin, beard, brows in itertools.product(hairs, a.HAIR_COLORS, a.SKINS, beards, a.EYEBROWS):
            yield Identity(word, hair, color, skin, beard, brows)


def split_of(identity: Identity) -> str:
    """'eval' for a fixed tenth of all combinations, 'train' for the rest."""
    text = "|".join(dataclasses.astuple(identity))
    return "eval" if int(hashlib.sha256(text.encode()).hexdigest(), 16) % EVAL_SHARE == 0 else "train"


def identities(count: int, seed: int, split: str) -> list[Identity]:
    """`count` different people of a split, half men and half women while both last, drawn without replacement.

    Raises:
        DataError: unknown split, or more people asked for than the split has.
    """
    if split not in SPLITS:
        raise DataError(f"toon split {split!r} is not one of {', '.join(SPLITS)}")
    pools = {w: [i for i in all_identities() if i.class_word == w and split_of(i) == split] for w in a.CLASS_WORDS}
    if count > sum(map(len, pools.values())):
        raise DataError(f"the toon split {split!r} has {sum(map(len, pools.values()))} people, asked for {count}")
    rng = random.Random(f"identities:{split}:{seed}")
    for pool in pools.values():
        rng.shuffle(pool)
    men, women = pools["man"], pools["woman"]
    n_women = min(len(women), max(count // 2, count - len(men)))
    chosen = men[: count - n_women] + women[:n_women]
    rng.shuffle(chosen)
    return chosen


def scene(rng: random.Random) -> Scene:
    """A random scene; half of all people wear no glasses and most have their eyes open."""
    return Scene(
        clothes=rng.choice(list(a.CLOTHES)),
        clothes_color=rng.choice(list(a.CLOTHES_COLORS)),
        mouth=rng.choice(list(a.MOUTHS)),
        eyes=rng.choices(list(a.EYES), weights=(2, 1, 1, 1))[0],
        glasses=rng.choices(list(a.GLASSES), weights=(2, 1, 1))[0],
        background=rng.choice(list(a.BACKGROUNDS)),
    )


def framing(rng: random.Random) -> Framing:
    return Framing(
        scale=rng.uniform(1.05, 1.3),
        x=rng.uniform(-0.08, 0.08),
        y=rng.uniform(-0.04, 0.05),
        rotation=rng.uniform(-8, 8),
    )
