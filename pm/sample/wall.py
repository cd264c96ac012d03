"""The person in a picture with a plain background, such as a toon photo.

Training took boxes and masks from annotations, and the whole picture as the crop. An uploaded picture has none, but its
wall gives the mask away. YuNet finds faces of drawings too, but its crop would be one that training never saw.
"""

import numpy as np
from PIL import Image
from scipy.ndimage import label

_SIDE = 256  # pixels it works at
_TOLERANCE = 12  # of 255, per channel: JPEG's noise
_WALL_SHARE = 0.4  # of the upper border, at least
_FLAT_COLOURS, _FLAT_TOLERANCE = 8, 16  # of 255, per channel
_FLAT_SHARE, _FLAT_SHARE_SMALL = 0.86, 0.75  # of the picture
_PERSON_SHARE = 0.02  # of the picture; smaller regions are specks
_OTHER_SHARE = 0.3  # of the largest region, for another region to be another person


def has_wall(image: Image.Image) -> bool:
    """Is the upper border mostly of one colour?"""
    pixels = _small(image)
    return float(_near(_border(pixels), _wall_colour(pixels)).mean()) >= _WALL_SHARE


def looks_drawn(image: Image.Image) -> bool:
    """A plain wall, and a few flat colours that cover nearly everything.

    Of 40 toon people, as PNG and as JPEG of 64 and 512 pixels, all pass; of nine photographs and paintings, two.
    """
    if not has_wall(image):
        return False
    # Small JPEGs have a good part of their pixels in blocks that an edge crosses.
    least = _FLAT_SHARE if max(image.size) >= _SIDE // 2 else _FLAT_SHARE_SMALL
    left = _small(image).reshape(-1, 3)
    total, covered = len(left), 0
    for _ in range(_FLAT_COLOURS):
        if not len(left):
            break
        sample = left[:: max(1, len(left) // 200)]
        close = [np.abs(left - colour).max(-1) <= _FLAT_TOLERANCE for colour in sample]
        commonest = close[int(np.argmax([mask.sum() for mask in close]))]
        covered += int(commonest.sum())
        left = left[~commonest]
    return covered / total >= least


def people_on_wall(image: Image.Image) -> list[Image.Image]:
    """Masks (L, white = person) of the people in front of the wall, the largest first; empty when there is nobody."""
    pixels = _small(image)
    near = _near(pixels, _wall_colour(pixels))
    seed = np.zeros_like(near)
    seed[0], seed[: len(near) // 2, [0, -1]] = True, True  # the lower border may be clothes in the wall's colour
    walls, _ = label(near)
    regions = _regions(~np.isin(walls, np.unique(walls[seed & near])))
    regions = [r for r in regions if r.mean() >= _PERSON_SHARE and r.sum() >= _OTHER_SHARE * regions[0].sum()]
    method = Image.Resampling.BILINEAR
    return [Image.fromarray(r.astype(np.uint8) * 255).resize(image.size, method) for r in regions]


def _small(image: Image.Image) -> np.ndarray:
    """int16 [H, W, 3], sides at most `_SIDE`; nearest pixels, so that no colours mix."""
    scale = min(1.0, _SIDE / max(image.size))
    width, height = (max(1, round(v * scale)) for v in image.size)
    return np.asarray(image.convert("RGB").resize((width, height), Image.Resampling.NEAREST)).astype(np.int16)


def _border(pixels: np.ndarray) -> np.ndarray:
    """[K, 3]: the top row and the upper halves of the outer columns."""
    half = len(pixels) // 2
    return np.concatenate([pixels[0], pixels[:half, 0], pixels[:half, -1]])


def _wall_colour(pixels: np.ndarray) -> np.ndarray:
    border = _border(pixels)
    # The pixel that most others resemble; a histogram would split a noisy colour between its bins.
    sample = border[:: max(1, len(border) // 64)]
    return sample[np.argmax([_near(border, colour).sum() for colour in sample])]


def _near(pixels: np.ndarray, colour: np.ndarray) -> np.ndarray:
    return np.abs(pixels - colour).max(-1) <= _TOLERANCE


def _regions(mask: np.ndarray) -> list[np.ndarray]:
    """Connected regions of `mask`, the largest first."""
    labels, count = label(mask)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    return [labels == i + 1 for i in np.argsort(-sizes, kind="stable")[:8]]
