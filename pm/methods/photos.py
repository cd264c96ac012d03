"""Are the photos of a person what a method can learn from."""

from collections.abc import Sequence

import numpy as np

from pm.errors import RequestError
from pm.methods.trial import Photo

_LEAST_SIDE = 16  # pixels


def check_photos(photos: Sequence[Photo]) -> None:
    """Refuse what cannot be learned from, before minutes are spent on it.

    Raises:
        RequestError: no photo at all, or one is no picture, too small, or has a mask of another size.
    """
    if not photos:
        raise RequestError("no photo of the person is given; one is needed at least")
    for i, photo in enumerate(photos):
        name, image = photo.name or f"photo {i + 1}", photo.image
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            found = f"{image.dtype} {list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
            raise RequestError(f"{name} is no picture ({found}); give uint8 [H, W, 3]")
        if min(image.shape[:2]) < _LEAST_SIDE:
            height, width = image.shape[:2]
            raise RequestError(f"{name} has {width} x {height} pixels; give {_LEAST_SIDE} along a side at least")
        if photo.mask is not None and photo.mask.shape != image.shape[:2]:
            raise RequestError(f"{name} has a mask {list(photo.mask.shape)} for pixels {list(image.shape[:2])}")
