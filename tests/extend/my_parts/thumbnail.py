"""`embedder=thumbnail`: a face as a small grey picture, for photos that one camera took in one place."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Ge
from PIL import Image

from pm.photo.embedders.embed import Distances, Embedder, EmbedderChoice
from pm.photo.types import Face


@dataclass(frozen=True)
class Thumbnail(Distances, EmbedderChoice):
    side: Annotated[int, Ge(2)]  # of the small picture, px

    def build(self, device: str = "cpu") -> Embedder | None:
        return ThumbnailEmbedder(self.side)


class ThumbnailEmbedder:
    def __init__(self, side: int):
        self.side = side

    def __call__(self, image: np.ndarray, faces: Sequence[Face]) -> np.ndarray:
        photo, size = Image.fromarray(image).convert("L"), (self.side, self.side)
        small = [np.asarray(photo.resize(size, box=face.box), np.float32).ravel() for face in faces]
        return np.stack([vector - vector.mean() for vector in small])
