"""Feature vectors of images, in batches; what was seen is remembered, since photos come again with every prompt."""

import hashlib
from collections.abc import Callable, Hashable, Sequence

import numpy as np
from cachetools import LRUCache
from PIL import Image

_CHUNK = 16  # images at once: at 224 px, more is no faster on a CPU and fills a small GPU
_REMEMBERED = 4096  # vectors of some kB


def as_rgb(image: np.ndarray) -> np.ndarray:
    """uint8 RGB [H, W, 3] of an image that may be grey ([H, W] or [H, W, 1])."""
    grey = image if image.ndim == 3 else image[..., None]
    return np.ascontiguousarray(np.broadcast_to(grey, (*grey.shape[:2], 3)) if grey.shape[2] == 1 else grey)


def pillow(image: np.ndarray) -> Image.Image:
    return Image.fromarray(as_rgb(image))


def digest(image: np.ndarray) -> tuple[tuple[int, ...], bytes]:
    """What tells two images apart."""
    data = np.ascontiguousarray(image)
    return data.shape, hashlib.blake2b(data.data, digest_size=16).digest()


def unit(rows: np.ndarray) -> np.ndarray:
    """Rows [n, F] of unit length, so that a dot product is a cosine; rows of zeros stay."""
    lengths = np.linalg.norm(rows, axis=-1, keepdims=True)
    return rows / np.where(lengths == 0, 1, lengths)


class Features:
    """images, uint8 [H, W, 3] of any sizes → float32 [n, F]; a vector depends on its image alone."""

    def __init__(self, embed: Callable[[list[np.ndarray]], np.ndarray], chunk: int = _CHUNK):
        """
        Args:
            embed: images, RGB → [n, F].
            chunk: how many it gets at once.
        """
        self._embed, self._chunk = embed, chunk
        self._known: LRUCache[Hashable, np.ndarray] = LRUCache(_REMEMBERED)

    def __call__(self, images: Sequence[np.ndarray]) -> np.ndarray:
        keys = [digest(image) for image in images]
        found = {key: self._known[key] for key in keys if key in self._known}
        new = {key: image for key, image in zip(keys, images, strict=True) if key not in found}
        left = list(new)
        for start in range(0, len(left), self._chunk):
            part = left[start : start + self._chunk]
            rows = self._embed([as_rgb(new[key]) for key in part])
            found |= dict(zip(part, np.asarray(rows, np.float32), strict=True))
        self._known.update({key: found[key] for key in left})
        return np.stack([found[key] for key in keys]) if keys else np.empty((0, 0), np.float32)

    def of_each(self, groups: Sequence[Sequence[np.ndarray]]) -> list[np.ndarray]:
        """The rows of each group of images, made in batches across groups."""
        rows = self([image for group in groups for image in group])
        ends = np.cumsum([len(group) for group in groups])
        return [rows[end - len(group) : end] for group, end in zip(groups, ends, strict=True)]
