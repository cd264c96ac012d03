"""Where the person stands in a drawing, measured on its pixels: the framing of pictures that nobody drew by hand.

The picture's silhouette, what is not the colour of the wall, is compared with that of the same person at many framings.
"""

import dataclasses
import functools
import itertools

import numpy as np
from PIL import Image
from scipy import ndimage

from pm.toon.attributes import Framing, Identity, Scene
from pm.toon.geometry import CANVAS, CENTER
from pm.toon.render import MIDDLE, render_person

_PLAIN = Scene("shirt", "white", "serious", "open", "none", "white")  # a silhouette does not show the rest
_SIDE = 32  # px, that silhouettes are compared at
_FINE = 128  # px, that one is drawn at
_WALL = 30.0  # RGB distance from the wall's colour from which on a pixel is the person's
_LEAST = 0.5  # intersection over union of a silhouette that is a person's
_SCALES = np.arange(1.0, 1.401, 0.05)
_ACROSS = np.arange(-0.10, 0.101, 0.02)
_DOWN = np.arange(-0.06, 0.081, 0.02)


def framing_of(image: np.ndarray, person: Identity) -> Framing | None:
    """Scale and shift at which somebody who looks like `person` stands in a picture, of a grid of steps of 0.05 and
    0.02; rotation, which it does not measure, is 0.

    Args:
        image: uint8 RGB [S, S, 3].
        person: whose silhouette is looked for.

    Returns:
        None where there is no such silhouette.
    """
    seen = _silhouette(image).ravel()
    frames, known = _framed(person)
    shared = known @ seen
    union = known.sum(1) + seen.sum() - shared
    overlap = shared / np.maximum(union, 1)
    best = int(overlap.argmax())
    return frames[best] if overlap[best] >= _LEAST else None


def _silhouette(image: np.ndarray) -> np.ndarray:
    """float32 [side, side], 1 on the person: the wall is what has the colour of the upper corners."""
    small = np.asarray(Image.fromarray(image).resize((_SIDE, _SIDE), Image.Resampling.BOX), dtype=np.float32)
    corners = np.concatenate([small[:3, :3].reshape(-1, 3), small[:3, -3:].reshape(-1, 3)])
    person = np.linalg.norm(small - np.median(corners, 0), axis=-1) > _WALL
    filled: np.ndarray = ndimage.binary_fill_holes(person).astype(np.float32)
    return filled


@functools.lru_cache(maxsize=256)
def _framed(person: Identity) -> tuple[list[Framing], np.ndarray]:
    """Framings and the silhouettes of a person at each, float32 [n, side * side]."""
    alpha = Image.fromarray(render_person(person, _PLAIN, MIDDLE, _FINE)[..., 3])
    cx, cy = (c / CANVAS * _FINE for c in CENTER)
    frames, masks = [], []
    for scale, x, y in itertools.product(_SCALES, _ACROSS, _DOWN):
        step = _FINE / _SIDE
        # From a pixel of the small picture to the place in the drawing that it shows.
        across = (step / scale, 0.0, cx - (cx + x * _FINE) / scale)
        down = (0.0, step / scale, cy - (cy + y * _FINE) / scale)
        moved = alpha.transform((_SIDE, _SIDE), Image.Transform.AFFINE, (*across, *down), Image.Resampling.BILINEAR)
        frames.append(Framing(float(scale), float(x), float(y), 0.0))
        masks.append((np.asarray(moved) > 127).ravel())
    return frames, np.array(masks, np.float32)


def apart(one: Framing, other: Framing) -> float:
    """How far the sides of the drawing's middle square move between two framings, at most, as a share of the photo."""
    return max(abs(one.x - other.x), abs(one.y - other.y)) + 0.25 * abs(one.scale - other.scale)


def upright(frame: Framing) -> Framing:
    """The same without rotation."""
    return dataclasses.replace(frame, rotation=0.0)
