"""The kind of parts that hide a mark in a picture's pixels."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pm.choice import Choice


@dataclass(frozen=True)
class Found:
    """What was looked for in a picture, and found or not."""

    found: bool
    score: float  # on the scale of `threshold`
    threshold: float
    number: int | None  # the mark's; None: none was found, or it cannot be read any more
    scale: float | None = None  # px of the picture for one of the picture that was marked
    mirrored: bool = False


@dataclass(frozen=True)
class WatermarkChoice(Choice, group="watermark", package="pm.protect.watermarks"):
    """An invisible mark."""

    name: str

    holds_in: ClassVar[int] = 0  # least pixels along the shorter side of a picture that can carry it

    def embed(self, pixels: np.ndarray) -> np.ndarray:
        """The picture with the mark.

        Args:
            pixels: uint8 [H, W, 3], both sides at least `holds_in`.

        Returns:
            uint8 [H, W, 3], the same for the same picture and settings.
        """
        raise NotImplementedError

    def find(self, pixels: np.ndarray) -> Found:
        """Look for the mark in a picture of any size, also a reduced, cut or compressed one.

        Args:
            pixels: uint8 [H, W, 3].
        """
        raise NotImplementedError
