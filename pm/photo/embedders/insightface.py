"""`embedder=insightface`: ArcFace, as in the paper (section 3.3). Its weights are for non-commercial research only."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from pm.photo.embedders.embed import Distances, Embedder, EmbedderChoice
from pm.photo.faces.detect import EYES_NOSE_MOUTH
from pm.photo.insightface_models import load_models, pack_files
from pm.photo.pixels import bgr
from pm.photo.types import Face

# A pack loads its detector as well, which is never asked here.
_SIDE, _THRESHOLD = 640, 0.5


@dataclass(frozen=True)
class InsightFace(Distances, EmbedderChoice):
    """ArcFace."""

    pack: str  # name of a model pack, or its folder

    uses_gpu: ClassVar[bool] = True
    landmarks: ClassVar[str | None] = EYES_NOSE_MOUTH

    def build(self, device: str = "cpu") -> Embedder | None:
        return ArcFaceEmbedder(self.pack, device)

    def weights(self) -> tuple[Path, ...]:
        return pack_files(self.pack)


class ArcFaceEmbedder:
    """512 numbers for each face, aligned by its five landmarks."""

    def __init__(self, pack: str, device: str):
        modules = ("recognition",)
        models = load_models("embedder.pack", pack, modules=modules, side=_SIDE, threshold=_THRESHOLD, device=device)
        self._model = models.models["recognition"]

    def __call__(self, image: np.ndarray, faces: Sequence[Face]) -> np.ndarray:
        from insightface.app.common import Face as Aligned

        pixels = bgr(image)
        points = [np.array(face.landmarks, dtype=np.float32).reshape(-1, 2) for face in faces]
        return np.stack([self._model.get(pixels, Aligned(kps=p)) for p in points])
