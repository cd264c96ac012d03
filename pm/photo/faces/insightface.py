"""`face=insightface`: SCRFD finds faces, ArcFace embeds them, as the paper's pipeline does (section 3.3).

InsightFace's code is free software; its pretrained weights are for non-commercial research only. So it is an extra that
a user installs, and never a default.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pm.data.records import Face, Photo
from pm.errors import CheckpointError, ConfigError, install_hint


def load_models(pack: str, *, modules: Sequence[str], side: int, threshold: float, device: str) -> Any:
    """InsightFace's `FaceAnalysis` with some of a model pack's parts ("detection", "recognition").

    Args:
        pack: name of a pack, which the library downloads at its first use, or a folder with .onnx files.
        side: of the square that photos are scaled into for detection, px.

    Raises:
        ConfigError: not installed.
        CheckpointError: the pack is not there, or a part is missing in it.
    """
    try:
        from insightface.app import FaceAnalysis
    except ImportError:
        raise ConfigError(
            f"InsightFace is not installed; run {install_hint('insightface')} "
            "(its weights are for non-commercial research only)"
        ) from None
    providers = ["CPUExecutionProvider"] if device == "cpu" else ["CUDAExecutionProvider", "CPUExecutionProvider"]
    name = str(Path(pack).resolve()) if Path(pack).is_dir() else pack
    try:
        models = FaceAnalysis(name=name, allowed_modules=["detection", *modules], providers=providers)
        models.prepare(ctx_id=-1 if device == "cpu" else 0, det_thresh=threshold, det_size=(side, side))
    except Exception as error:  # network, broken files, missing parts: the library has no error type of its own
        raise CheckpointError(
            f"face.pack={pack} cannot be loaded ({type(error).__name__}: {error}); give a pack's name "
            "(buffalo_l) with network access, or a folder with its .onnx files"
        ) from error
    missing = [part for part in modules if part not in models.models]
    if missing:
        raise CheckpointError(f"face.pack={pack} has no model for {missing[0]}; choose a whole pack such as buffalo_l")
    return models


class InsightFaceDetector:
    """SCRFD: boxes, scores and five landmarks (eyes, nose, corners of the mouth)."""

    needs_pixels = True

    def __init__(self, pack: str, side: int, threshold: float, device: str):
        self._model = load_models(pack, modules=(), side=side, threshold=threshold, device=device).det_model

    def __call__(self, photo: Photo, image: np.ndarray) -> list[Face]:
        boxes, points = self._model.detect(_bgr(image), max_num=0)
        landmarks = [()] * len(boxes) if points is None else [tuple(map(float, p.flatten())) for p in points]
        return [
            Face(tuple(map(float, box[:4])), where, float(box[4]), ())
            for box, where in zip(boxes, landmarks, strict=True)
        ]


class ArcFaceEmbedder:
    """ArcFace: 512 numbers for each face, aligned by its five landmarks."""

    def __init__(self, pack: str, side: int, threshold: float, device: str):
        parts = load_models(pack, modules=("recognition",), side=side, threshold=threshold, device=device)
        self._model = parts.models["recognition"]

    def __call__(self, image: np.ndarray, faces: Sequence[Face]) -> np.ndarray:
        from insightface.app.common import Face as Aligned

        pixels = _bgr(image)
        points = [np.array(face.landmarks, dtype=np.float32).reshape(-1, 2) for face in faces]
        return np.stack([self._model.get(pixels, Aligned(kps=p)) for p in points])


def _bgr(image: np.ndarray) -> np.ndarray:
    """RGB → BGR, as OpenCV and with it InsightFace have it."""
    return np.ascontiguousarray(image[..., ::-1])
