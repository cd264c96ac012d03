"""Photos that are none: a faded print, a painting. The same drawing as an old photo or an artwork shows a person
(applications of the paper, section 4.3)."""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter

_SEPIA = np.array([[0.393, 0.769, 0.189], [0.349, 0.686, 0.168], [0.272, 0.534, 0.131]], np.float32)


def _faded(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Sepia with little contrast, grain and a few scratches, as a print that lay in the sun."""
    pixels = image.astype(np.float32) @ _SEPIA.T
    pixels = 255 - 0.62 * (255 - pixels) - 22  # whites yellow, blacks turn grey
    pixels += rng.normal(0, 9, (*image.shape[:2], 1)).astype(np.float32)
    for _ in range(int(rng.integers(1, 4))):
        _scratch(pixels, rng)
    return _whole(pixels)


def _scratch(pixels: np.ndarray, rng: np.random.Generator) -> None:
    side = pixels.shape[0]
    x, slope = rng.uniform(0, side), rng.uniform(-0.3, 0.3)
    for y in range(side):
        column = int(x + slope * y)
        if 0 <= column < pixels.shape[1]:
            pixels[y, column] = 0.4 * pixels[y, column] + 0.6 * 235


def _painting(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Patches of few colours on canvas, as with a broad brush."""
    patches = Image.fromarray(image).filter(ImageFilter.ModeFilter(3))
    levels = np.asarray(patches).astype(np.float32) / 255
    tint = rng.uniform(0.88, 1.12, 3).astype(np.float32)
    pixels = np.round(levels * 5) / 5 * 255 * tint
    canvas = (np.indices(image.shape[:2]).sum(0) % 2)[..., None] * 10.0
    return _whole(pixels - canvas)


def _whole(pixels: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


LOOKS: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {"faded": _faded, "painting": _painting}


def look(image: np.ndarray, name: str, seed: int) -> np.ndarray:
    """A photo uint8 [H, W, 3] as one of `LOOKS` shows it; the same seed gives the same scratches and tints."""
    return LOOKS[name](image, np.random.default_rng(seed))
