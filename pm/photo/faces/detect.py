"""The kind of parts that find faces, and what is common to them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Protocol

import numpy as np
from annotated_types import Ge
from PIL import Image

from pm.choice import Choice
from pm.photo.types import Face, PhotoView

# What `Face.landmarks` holds, so that an embedder can tell whether it can use them.
EYES_NOSE_MOUTH = "both eyes, tip of the nose, both corners of the mouth"
EYE_CORNERS_NOSE = "both corners of each eye, base of the nose"


class Detector(Protocol):
    """Finds the faces of a photo; it asks for `photo.pixels` or `photo.annotations` as it needs them.

    Raises:
        SidecarError: there are no annotations, or broken ones.
    """

    def __call__(self, photo: PhotoView) -> list[Face]: ...


@dataclass(frozen=True)
class FaceChoice(Choice, group="face", package="pm.photo.faces"):
    """Where faces come from (paper section 3.3, "Face detection and filtering")."""

    name: str
    min_size: Annotated[int, Ge(1)]  # pixels, shorter side of the box

    holds_model: ClassVar[bool] = True  # worth a worker of its own that keeps it
    uses_gpu: ClassVar[bool] = False
    landmarks: ClassVar[str | None] = None  # which points it finds; None: none, or nobody knows

    def build(self, device: str = "cpu") -> Detector:
        """The detector, its model loaded.

        Raises:
            ConfigError: what it needs is not installed.
            CheckpointError: its weights are not there.
        """
        raise NotImplementedError

    def weights(self) -> tuple[Path, ...]:
        """Files of its network; () where it has none, or they are part of a library."""
        return ()


def clip_box(box: Sequence[float], width: int, height: int) -> tuple[float, ...]:
    """The part of a box inside the photo."""
    return tuple(float(min(max(v, 0), limit)) for v, limit in zip(box, (width, height, width, height), strict=True))


def at_most(image: np.ndarray, side: int) -> tuple[np.ndarray, float]:
    """The image [H, W, 3] with its longer side at most `side`, and the scale that it was multiplied by."""
    scale = min(1.0, side / max(image.shape[:2]))
    if scale == 1.0:
        return image, scale
    size = tuple(max(1, round(v * scale)) for v in (image.shape[1], image.shape[0]))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)), scale
