"""Draw a toon photo: identity + scene + framing → pixels, person mask, face box and landmarks.

The drawing is DiceBear's `avataaars` (Pablo Stanley, free for personal and commercial use), rasterised by resvg.
"""

import dataclasses
import functools
import importlib.resources
import io
import json

import numpy as np
import resvg_py
from dicebear import Avatar, Style
from PIL import Image, ImageColor

from pm.toon import attributes as a
from pm.toon.attributes import Framing, Identity, Scene
from pm.toon.covers import COLORS, HEADWEAR, NOTHING, Covers
from pm.toon.geometry import CANVAS, CENTER, to_pixels

FACE_BOX = (84.0, 60.0, 196.0, 190.0)  # head without hair, in drawing units
LANDMARKS = (
    (118.0, 116.0),
    (162.0, 116.0),
    (140.0, 132.0),
    (122.0, 152.0),
    (158.0, 152.0),
)  # eyes, nose, mouth corners
# Drawn over everything else, in drawing units: the style itself has nothing that hides brows or beards.
_GOGGLES = (
    '<rect x="86" y="84" width="108" height="46" rx="14" fill="#1d2226"/>'
    '<rect x="95" y="92" width="90" height="30" rx="10" fill="#3a6ea5"/>'
)
_SCARF = (
    '<path d="M78 122C98 146 182 146 202 122L205 198C190 222 90 222 75 198Z" fill="#{color}"/>'
    '<path d="M77 158C100 180 180 180 203 158" stroke="#00000033" stroke-width="6" fill="none"/>'
)
MIDDLE = Framing(scale=1.0, x=0.0, y=0.0, rotation=0.0)


Box = tuple[float, float, float, float]  # x0, y0, x1, y1 in pixels


@dataclasses.dataclass(frozen=True)
class Photo:
    """`image` uint8 [S, S, 3]; `mask` uint8 [S, S], 255 on the person; box (None: nobody) and landmarks in pixels."""

    image: np.ndarray
    mask: np.ndarray
    face_box: Box | None
    landmarks: tuple[tuple[float, float], ...]


@functools.cache
def _style() -> Style:
    text = (importlib.resources.files("dicebear_styles") / "avataaars.json").read_text()
    return Style(json.loads(text))


def _options(identity: Identity, scene: Scene, over: Covers) -> dict:
    beard, glasses = a.FACIAL_HAIR[identity.facial_hair], a.GLASSES[scene.glasses]
    beard = None if over.scarf_color else beard  # a full one would show beside the scarf
    glasses = None if over.goggles else glasses
    return {
        "seed": "toon",
        "topVariant": HEADWEAR[over.headwear] if over.headwear else a.HAIR[identity.hair],
        "hatColor": COLORS[over.headwear_color],
        "topProbability": 100,
        "hairColor": a.HAIR_COLORS[identity.hair_color],
        "skinColor": a.SKINS[identity.skin],
        "eyebrowsVariant": a.EYEBROWS[identity.eyebrows],
        "facialHairVariant": beard or "beardLight",
        "facialHairProbability": 100 if beard else 0,
        "facialHairColor": a.HAIR_COLORS[identity.hair_color],
        "clothesVariant": a.CLOTHES[scene.clothes],
        "clothesColor": a.CLOTHES_COLORS[scene.clothes_color],
        "mouthVariant": a.MOUTHS[scene.mouth],
        "eyesVariant": a.EYES[scene.eyes],
        "accessoriesVariant": glasses or "round",
        "accessoriesProbability": 100 if glasses else 0,
        "accessoriesColor": "262e33",
    }


def render_person(identity: Identity, scene: Scene, framing: Framing, size: int, over: Covers = NOTHING) -> np.ndarray:
    """The person alone on a transparent ground: uint8 RGBA [size, size, 4], not premultiplied."""
    svg = Avatar(_style(), _options(identity, scene, over)).to_string()
    start, end = svg.index(">") + 1, svg.rindex("</svg>")
    cx, cy = CENTER
    place = (
        f"translate({cx + framing.x * CANVAS:.3f} {cy + framing.y * CANVAS:.3f}) "
        f"rotate({framing.rotation:.3f}) scale({framing.scale:.4f}) translate({-cx} {-cy})"
    )
    top = (_SCARF.format(color=COLORS[over.scarf_color]) if over.scarf_color else "") + (
        _GOGGLES if over.goggles else ""
    )
    svg = f'{svg[:start]}<g transform="{place}">{svg[start:end]}{top}</g></svg>'
    png = resvg_py.svg_to_bytes(svg_string=svg, width=size, height=size, skip_system_fonts=True)
    return np.asarray(Image.open(io.BytesIO(bytes(png))).convert("RGBA"))


def face_geometry(framing: Framing, size: int) -> tuple[Box, tuple[tuple[float, float], ...]]:
    """(face box x0, y0, x1, y1; five landmarks) of a framing, in pixels, clipped to the photo."""
    x0, y0, x1, y1 = FACE_BOX
    corners = [to_pixels(x, y, framing, size) for x, y in ((x0, y0), (x1, y0), (x0, y1), (x1, y1))]
    xs, ys = [c[0] for c in corners], [c[1] for c in corners]
    x0, y0, x1, y1 = (float(np.clip(v, 0, size)) for v in (min(xs), min(ys), max(xs), max(ys)))
    return (x0, y0, x1, y1), tuple(to_pixels(x, y, framing, size) for x, y in LANDMARKS)


def background(name: str, size: int) -> np.ndarray:
    """A plain wall, uint8 [size, size, 3]."""
    return np.full((size, size, 3), ImageColor.getrgb("#" + a.BACKGROUNDS[name]), dtype=np.uint8)


def paste(ground: np.ndarray, person: np.ndarray) -> np.ndarray:
    """Alpha-composite RGBA [S, S, 4] over RGB [S, S, 3], both uint8."""
    alpha = person[..., 3:].astype(np.float32) / 255
    return np.rint(ground * (1 - alpha) + person[..., :3] * alpha).astype(np.uint8)


def render_photo(
    identity: Identity, scene: Scene, framing: Framing = MIDDLE, size: int = 64, over: Covers = NOTHING
) -> Photo:
    """One photo of one person, `size` × `size` pixels."""
    person = render_person(identity, scene, framing, size, over)
    box, landmarks = face_geometry(framing, size)
    return Photo(paste(background(scene.background, size), person), person[..., 3].copy(), box, landmarks)
