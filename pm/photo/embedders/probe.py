"""`embedder=probe`: the toon world's attribute probe, for drawn people."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from pm.photo.crop import square_box
from pm.photo.embedders.embed import Distances, Embedder, EmbedderChoice
from pm.photo.types import Face

_SHARE = 0.2  # the least share of a photo that a toon face has when it is drawn alone


@dataclass(frozen=True)
class Probe(Distances, EmbedderChoice):
    """The probe of `pm.toon.probe`."""

    path: str  # its file

    def build(self, device: str = "cpu") -> Embedder | None:
        return ProbeEmbedder(self.path)

    def weights(self) -> tuple[Path, ...]:
        return (Path(self.path),)


class ProbeEmbedder:
    """It sees the face framed as in the photos that it was trained on."""

    def __init__(self, path: str):
        from pm.toon.probe import RESOLUTION, load_probe

        self._probe, self._size = load_probe(path), RESOLUTION

    def __call__(self, image: np.ndarray, faces: Sequence[Face]) -> np.ndarray:
        height, width, _ = image.shape
        photo, size = Image.fromarray(image), (self._size, self._size)
        boxes = [square_box(face.box, width, height, _SHARE) for face in faces]
        crops = [photo.resize(size, Image.Resampling.BILINEAR, box=box) for box in boxes]
        return self._probe.embed(np.stack([np.asarray(crop) for crop in crops]))
