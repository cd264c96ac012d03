"""Natural-English captions of toon photos.

`caption` says what varies and never what the identity is: it is what a dataset row and an evaluation prompt carry.
`identity_caption` also describes the person; only the base model's pre-training sees it, so that the base knows how
each trait looks when text asks for it.
"""

import random

from pm.toon.attributes import Identity, Scene

_MOUTH = {
    "smiling": "smiling",
    "serious": "with a serious look",
    "sad": "with a sad mouth",
    "shouting": "shouting",
    "tongue": "sticking out the tongue",
}
_EYES = {"closed": "with closed eyes", "winking": "winking", "wide": "with wide eyes"}
_GLASSES = {"glasses": "glasses", "sunglasses": "sunglasses"}


def _article(word: str) -> str:
    return ("an " if word[0] in "aeiou" else "a ") + word


def _outfit(scene: Scene) -> str:
    clothes = f"{scene.clothes_color} {scene.clothes}"
    text = clothes if scene.clothes == "overalls" else _article(clothes)
    return f"{text} and {_GLASSES[scene.glasses]}" if scene.glasses != "none" else text


def _look(scene: Scene, omit: frozenset[str]) -> list[str]:
    parts = [] if "mouth" in omit else [_MOUTH[scene.mouth]]
    if scene.eyes != "open" and scene.glasses != "sunglasses":
        parts.append(_EYES[scene.eyes])
    return parts


def describe(subject: str, scene: Scene, rng: random.Random | None = None, omit: frozenset[str] = frozenset()) -> str:
    """A sentence about `subject` (for example 'a man' or 'a man img') in `scene`.

    Args:
        rng: varies the wording; without it the first template is used.
        omit: 'mouth' and 'background' can be left unsaid.
    """
    outfit, look = _outfit(scene), _look(scene, omit)
    behind = [] if "background" in omit else [f"{scene.background} wall"]
    templates = (
        [f"{subject} wearing {outfit}", *look, *(f"in front of a {w}" for w in behind)],
        [f"a photo of {subject} in {outfit}", *look, *(f"with a {w} behind" for w in behind)],
        [" ".join([subject, ", ".join(look)]).strip(), f"wearing {outfit}", *(f"against a {w}" for w in behind)],
        [f"a portrait of {subject} wearing {outfit}", *look, *(f"before a {w}" for w in behind)],
    )
    return ", ".join(rng.choice(templates) if rng else templates[0])


def prompted(scene: Scene, omit: frozenset[str] = frozenset()) -> dict[str, str]:
    """The photo attributes that `describe` puts into words; what it leaves unsaid is not prompted."""
    said = {"clothes": scene.clothes, "clothes_color": scene.clothes_color}
    said |= {"mouth": scene.mouth, "background": scene.background}
    if scene.glasses != "none":
        said["glasses"] = scene.glasses
    if scene.eyes != "open" and scene.glasses != "sunglasses":
        said["eyes"] = scene.eyes
    return {k: v for k, v in said.items() if k not in omit}


def caption(identity: Identity, scene: Scene, rng: random.Random | None = None) -> str:
    """What varies, and the class word; nothing else about the identity."""
    return describe(_article(identity.class_word), scene, rng)


def traits(identity: Identity) -> str:
    """The identity in words: 'pale skin, a red quiff, a full beard and thick eyebrows'."""
    hair = f"{identity.hair_color} {identity.hair}"
    parts = [f"{identity.skin} skin", hair if hair.endswith(("hair", "curls", "locs")) else _article(hair)]
    if identity.facial_hair != "no beard":
        parts.append(_article(identity.facial_hair))
    return ", ".join(parts) + f" and {identity.eyebrows} eyebrows"


def identity_caption(identity: Identity, scene: Scene, rng: random.Random) -> str:
    """What varies and who it is. In half of them the traits come before the class word, so that the text encoders'
    causal attention carries the person into the class word's own vector, the place PhotoMaker later writes to."""
    word, who = identity.class_word, traits(identity)
    subject = rng.choice((f"a {word} with {who},", f"somebody with {who}, a {word}"))
    return describe(subject, scene, rng)
