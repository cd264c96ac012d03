"""What the parts of this room hand to each other: photos, faces, crops, and the reason why a photo cannot be used."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

_SENTENCES = {
    "no_face": "no face found",
    "face_too_small": "face too small ({value:.0f} pixels, needs {threshold:.0f})",
    "face_share": "the face fills {value:.1%} of the square around it, needs {threshold:.0%}",
    "upscaled": "the square around the face would be enlarged {value:.1f} times, at most {threshold:.1f} is allowed",
    "no_mask": "the person could not be told from the background",
    "mask_misses_face": "the person's mask covers {value:.0%} of the face, needs {threshold:.0%}",
    "mask_keeps_all": "the person could not be told from the background (the mask keeps {value:.0%})",
}


class SidecarError(ValueError):
    """Annotations are there and cannot be used; `reason` is what the reject row says."""

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason


class SidecarMissing(SidecarError):
    """There are no annotations at all."""

    def __init__(self) -> None:
        super().__init__("no_sidecar")


def no_annotations() -> Mapping[str, Any]:
    """Stands for the annotations of a photo that has none.

    Raises:
        SidecarMissing: always.
    """
    raise SidecarMissing()


@dataclass(frozen=True)
class Face:
    """A detected face, in pixels of the upright photo."""

    box: tuple[float, ...]  # x0, y0, x1, y1
    landmarks: tuple[float, ...]  # x, y of each point, flat
    score: float
    embedding: tuple[float, ...] = ()  # () without an embedder

    @property
    def side(self) -> float:
        """The shorter side of the box."""
        x0, y0, x1, y1 = self.box
        return max(0.0, min(x1 - x0, y1 - y0))

    @property
    def area(self) -> float:
        x0, y0, x1, y1 = self.box
        return max(0.0, x1 - x0) * max(0.0, y1 - y0)


@dataclass(frozen=True)
class Refusal:
    """Why a photo cannot be used: `value` was measured, `threshold` asked for; None where nothing is measured."""

    stage: str
    reason: str
    value: float | None = None
    threshold: float | None = None

    def sentence(self) -> str:
        """The reason in words, without the photo's name."""
        text = _SENTENCES.get(self.reason, self.reason.replace("_", " "))
        return text.format(value=self.value, threshold=self.threshold)


@dataclass(frozen=True)
class PhotoView:
    """One upright photo as detectors and maskers see it; pixels and annotations are read when first asked for.

    Where the bytes come from (a folder, a bucket, an upload) is the caller's business.
    """

    width: int
    height: int
    read_pixels: Callable[[], np.ndarray]
    read_annotations: Callable[[], Mapping[str, Any]] = no_annotations

    @classmethod
    def of(cls, pixels: np.ndarray, annotations: Callable[[], Mapping[str, Any]] = no_annotations) -> "PhotoView":
        """A photo that is in memory: uint8 RGB [H, W, 3]."""
        return cls(pixels.shape[1], pixels.shape[0], lambda: pixels, annotations)

    @cached_property
    def pixels(self) -> np.ndarray:
        """uint8 RGB [H, W, 3]; raises what reading raises."""
        return self.read_pixels()

    @cached_property
    def annotations(self) -> Mapping[str, Any]:
        """What the JSON file beside the photo says (`pm.photo.sidecar`).

        Raises:
            SidecarError: there is none, or it is broken.
        """
        return self.read_annotations()


@dataclass(frozen=True)
class Crop:
    """The square around a face."""

    photo: PhotoView
    box: tuple[int, ...]  # x0, y0, x1, y1 in the photo, whole pixels
    face: tuple[float, ...]  # the face's box in pixels of the crop
    pixels: np.ndarray  # uint8 RGB [S, S, 3]
