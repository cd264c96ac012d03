"""The attributes of the toon world: their values, how they are drawn, and who owns them.

Identity attributes belong to a person and stay; photo attributes change from photo to photo and are what a caption
says. Drawing names are those of the DiceBear `avataaars` style. Values were chosen to be distinguishable at 64 px.
"""

import dataclasses

CLASS_WORDS = ("man", "woman")

# value → avataaars `top` variant. The two sets are disjoint, so the class word can be read from pixels.
MEN_HAIR = {
    "quiff": "shortWaved",
    "buzz cut": "theCaesar",
    "tonsure": "sides",
    "shaggy hair": "shaggy",
    "spiky locs": "dreads02",
    "undercut": "frizzle",
    "fluffy curls": "shortCurly",
}
WOMEN_HAIR = {
    "bob": "bob",
    "bun": "bun",
    "afro": "fro",
    "straight long hair": "straight02",
    "long locs": "dreads",
    "wavy long hair": "bigHair",
    "big curls": "curly",
}
HAIR = MEN_HAIR | WOMEN_HAIR
HAIR_COLORS = {
    "black": "2c1b18",
    "brown": "724133",
    "red": "c93305",
    "blond": "e0b35c",
    "silver": "e8e1e1",
    "pink": "f57aa0",
}
SKINS = {"dark": "614335", "brown": "a5602f", "tan": "d99b66", "pale": "ffdfc4", "yellow": "f8d25c"}
FACIAL_HAIR = {
    "no beard": None,
    "full beard": "beardMajestic",
    "short beard": "beardLight",
    "moustache": "moustacheFancy",
}
EYEBROWS = {"thin": "defaultNatural", "thick": "flatNatural", "slanted": "angry"}

CLOTHES = {
    "hoodie": "hoodie",
    "overalls": "overall",
    "blazer": "blazerAndShirt",
    "sweater": "collarAndSweater",
    "shirt": "shirtVNeck",
}
CLOTHES_COLORS = {
    "black": "262e33",
    "blue": "3f83e0",
    "red": "d93a3a",
    "green": "3c9d4e",
    "yellow": "f2c230",
    "white": "fafafa",
    "purple": "8a55cc",
}
MOUTHS = {"smiling": "smile", "serious": "serious", "sad": "sad", "shouting": "screamOpen", "tongue": "tongue"}
EYES = {"open": "default", "closed": "closed", "winking": "wink", "wide": "surprised"}
GLASSES = {"none": None, "glasses": "prescription02", "sunglasses": "wayfarers"}
BACKGROUNDS = {
    "blue": "8cc4ff",
    "green": "9adba0",
    "yellow": "ffe88a",
    "pink": "ffb7cd",
    "gray": "9a9fa6",
    "white": "ffffff",
}

# Attribute → its values, in the order of the probe's classes. The class word is prompted, never scored as identity.
IDENTITY_ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "hair": tuple(HAIR),
    "hair_color": tuple(HAIR_COLORS),
    "skin": tuple(SKINS),
    "facial_hair": tuple(FACIAL_HAIR),
    "eyebrows": tuple(EYEBROWS),
}
PHOTO_ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "clothes": tuple(CLOTHES),
    "clothes_color": tuple(CLOTHES_COLORS),
    "mouth": tuple(MOUTHS),
    "eyes": tuple(EYES),
    "glasses": tuple(GLASSES),
    "background": tuple(BACKGROUNDS),
}
ATTRIBUTES: dict[str, tuple[str, ...]] = {"class_word": CLASS_WORDS} | IDENTITY_ATTRIBUTES | PHOTO_ATTRIBUTES


@dataclasses.dataclass(frozen=True)
class Identity:
    """A person: what stays the same in all of their photos. Field values are keys of the tables above."""

    class_word: str
    hair: str
    hair_color: str
    skin: str
    facial_hair: str
    eyebrows: str


@dataclasses.dataclass(frozen=True)
class Scene:
    """What varies from photo to photo, and what its caption says."""

    clothes: str
    clothes_color: str
    mouth: str
    eyes: str
    glasses: str
    background: str


@dataclasses.dataclass(frozen=True)
class Framing:
    """Where the person stands in the photo. Never captioned, so identity is not a pixel position.

    `scale` is relative to the drawing's own size, `x` and `y` are shifts as a fraction of the photo's side, `rotation`
    is in degrees.
    """

    scale: float
    x: float
    y: float
    rotation: float


def visible_attributes(identity: Identity, scene: Scene) -> dict[str, str]:
    """All attributes that can be read from a photo: eyes cannot be seen behind sunglasses."""
    values = dataclasses.asdict(identity) | dataclasses.asdict(scene)
    if scene.glasses == "sunglasses":
        del values["eyes"]
    return values
