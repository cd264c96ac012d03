"""Natural-English captions of toon photos.

`caption` says what varies and never what the identity is: it is what a dataset row and an evaluation prompt carry.
`identity_caption` also describes the person; only the base model's pre-training sees it, so that the base knows how
each trait looks when text asks for it.
"""

import random
from collections.abc import Collection

from pm.toon.attributes import IDENTITY_ATTRIBUTES, Identity, Scene
from pm.toon.covers import NOTHING, Covers

OMITTABLE = ("mouth", "eyes", "glasses", "clothes", "background")

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


def _outfit(scene: Scene, omit: frozenset[str], over: Covers) -> str:
    """What they wear, as 'a red shirt, a green turban and glasses'; empty when nothing of it is said."""
    clothes = f"{scene.clothes_color} {scene.clothes}"
    parts = [] if "clothes" in omit else [clothes if scene.clothes == "overalls" else _article(clothes)]
    if over.headwear:
        parts.append(_article(f"{over.headwear_color} {over.headwear}"))
    if over.goggles:
        parts.append("goggles")
    elif scene.glasses != "none" and "glasses" not in omit:
        parts.append(_GLASSES[scene.glasses])
    if over.scarf_color:
        parts.append(f"a {over.scarf_color} scarf over the mouth")
    return " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))


def _look(scene: Scene, omit: frozenset[str]) -> list[str]:
    parts = [] if "mouth" in omit else [_MOUTH[scene.mouth]]
    if scene.eyes != "open" and scene.glasses != "sunglasses" and "eyes" not in omit:
        parts.append(_EYES[scene.eyes])
    return parts


def describe(
    subject: str,
    scene: Scene,
    rng: random.Random | None = None,
    omit: frozenset[str] = frozenset(),
    over: Covers = NOTHING,
) -> str:
    """A sentence about `subject` (for example 'a man' or 'a man img') in `scene`.

    Args:
        rng: varies the wording; without it the first template is used.
        omit: what is left unsaid, of `OMITTABLE`.
        over: what hides a part of them; what is hidden must be in `omit` (`hidden`).
    """
    outfit, look = _outfit(scene, omit, over), _look(scene, omit)
    behind = [] if "background" in omit else [f"{scene.background} wall"]
    wearing, worn = (f" wearing {outfit}", f" in {outfit}") if outfit else ("", "")
    templates = (
        [f"{subject}{wearing}", *look, *(f"in front of a {w}" for w in behind)],
        [f"a photo of {subject}{worn}", *look, *(f"with a {w} behind" for w in behind)],
        [" ".join([subject, ", ".join(look)]).strip(), wearing.strip(), *(f"against a {w}" for w in behind)],
        [f"a portrait of {subject}{wearing}", *look, *(f"before a {w}" for w in behind)],
    )
    text = ", ".join(filter(None, rng.choice(templates) if rng else templates[0]))
    return text.replace(",,", ",").rstrip(",")  # a subject may end with one


def omissions(rng: random.Random, share: float) -> frozenset[str]:
    """Leave each of `OMITTABLE` unsaid with the probability `share`, 0 to 1.

    A base whose captions never omit something draws it without variety when a prompt does.
    """
    return frozenset(name for name in OMITTABLE if rng.random() < share)


def hidden(scene: Scene, over: Covers) -> frozenset[str]:
    """What covers leave unseen, and no caption may say."""
    names = {"mouth"} if over.scarf_color else set()
    names |= {"eyes", "glasses"} if over.goggles else set()
    names |= {"clothes"} if over.headwear == "headscarf" else set()
    return frozenset(names)


def prompted(scene: Scene, omit: frozenset[str] = frozenset()) -> dict[str, str]:
    """The photo attributes that `describe` puts into words; what it leaves unsaid is not prompted."""
    said = {"clothes": scene.clothes, "clothes_color": scene.clothes_color}
    said |= {"mouth": scene.mouth, "background": scene.background}
    if scene.glasses != "none":
        said["glasses"] = scene.glasses
    if scene.eyes != "open" and scene.glasses != "sunglasses":
        said["eyes"] = scene.eyes
    if "clothes" in omit:
        omit |= {"clothes_color"}
    return {k: v for k, v in said.items() if k not in omit}


def caption(
    identity: Identity,
    scene: Scene,
    rng: random.Random | None = None,
    omit: frozenset[str] = frozenset(),
    over: Covers = NOTHING,
) -> str:
    """What varies, and the class word; nothing else about the identity."""
    return describe(_article(identity.class_word), scene, rng, omit | hidden(scene, over), over)


def traits(identity: Identity, seen: Collection[str] = tuple(IDENTITY_ATTRIBUTES)) -> str:
    """The identity in words, as far as it is `seen`: 'pale skin, a red quiff, a full beard and thick eyebrows'.

    Hair of an unseen kind or colour is 'red hair' or 'a quiff'; empty when nothing is seen.
    """
    parts = [f"{identity.skin} skin"] if "skin" in seen else []
    kind = identity.hair if "hair" in seen else "hair"
    hair = f"{identity.hair_color} {kind}" if "hair_color" in seen else kind
    if hair != "hair":
        parts.append(hair if hair.endswith(("hair", "curls", "locs")) else _article(hair))
    if identity.facial_hair != "no beard" and "facial_hair" in seen:
        parts.append(_article(identity.facial_hair))
    if "eyebrows" in seen:
        parts.append(f"{identity.eyebrows} eyebrows")
    return " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))


def identity_caption(
    identity: Identity,
    scene: Scene,
    rng: random.Random,
    omit: frozenset[str] = frozenset(),
    over: Covers = NOTHING,
    seen: Collection[str] = tuple(IDENTITY_ATTRIBUTES),
) -> str:
    """What varies and who it is. In half of them the traits come before the class word, so that the text encoders'
    causal attention carries the person into the class word's own vector, the place PhotoMaker later writes to."""
    word, who = identity.class_word, traits(identity, seen)
    subject = rng.choice((f"a {word} with {who},", f"somebody with {who}, a {word}")) if who else f"a {word}"
    return describe(subject, scene, rng, omit | hidden(scene, over), over)
