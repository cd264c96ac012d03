"""Stage 2: face boxes, landmarks and embeddings (paper section 3.3, "Face detection and filtering")."""

import importlib.util
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Protocol

import numpy as np
from PIL import Image

from pm.data.config import FaceConfig
from pm.data.records import Face, Photo, each_kept
from pm.data.source.store import read_pixels
from pm.data.stages.crop import square_box
from pm.errors import ConfigError, install_hint
from pm.photo.faces.insightface import ArcFaceEmbedder, InsightFaceDetector
from pm.photo.sidecar import SidecarError, read_sidecar, sidecar_faces

STAGE = "faces"
_PROBE_SHARE = 0.2  # the least share of a photo that a toon face has when it is drawn alone
_OR = "or use face=sidecar and embedder=none"


class Detector(Protocol):
    """Finds faces. `needs_pixels` False: `image` may be None."""

    needs_pixels: bool

    def __call__(self, photo: Photo, image: np.ndarray | None) -> list[Face]: ...


class Embedder(Protocol):
    """Turns each face of a photo into a vector; the same person's lie close together."""

    def __call__(self, image: np.ndarray, faces: Sequence[Face]) -> np.ndarray: ...


class SidecarDetector:
    """Faces from the annotations beside the photo."""

    needs_pixels = False

    def __init__(self, root: str | Path):
        self.root = root

    def __call__(self, photo: Photo, image: np.ndarray | None) -> list[Face]:
        return sidecar_faces(read_sidecar(self.root, photo.photo))


class DlibDetector:
    """dlib's HOG detector for frontal faces, and five landmarks: two corners of each eye, base of the nose."""

    needs_pixels = True

    def __init__(self, upsample: int, max_side: int):
        dlib = import_dlib()
        self.upsample, self.max_side = upsample, max_side
        self._detect = dlib.get_frontal_face_detector()
        self._predict = dlib.shape_predictor(dlib_model("shape_predictor_5_face_landmarks.dat"))

    def __call__(self, photo: Photo, image: np.ndarray) -> list[Face]:
        dlib = import_dlib()
        small, scale = _at_most(image, self.max_side)
        boxes, scores, _ = self._detect.run(small, self.upsample, 0.0)
        faces = []
        for box, score in zip(boxes, scores, strict=True):
            corners = [v / scale for v in (box.left(), box.top(), box.right() + 1, box.bottom() + 1)]
            points = self._predict(image, dlib.rectangle(*(round(v) for v in corners))).parts()
            faces.append(Face(tuple(corners), tuple(float(v) for p in points for v in (p.x, p.y)), score, ()))
        return faces


class DlibEmbedder:
    """dlib's ResNet: 128 numbers; distance below about 0.6 means the same person."""

    def __init__(self) -> None:
        dlib = import_dlib()
        self._predict = dlib.shape_predictor(dlib_model("shape_predictor_5_face_landmarks.dat"))
        self._embed = dlib.face_recognition_model_v1(dlib_model("dlib_face_recognition_resnet_model_v1.dat"))

    def __call__(self, image: np.ndarray, faces: Sequence[Face]) -> np.ndarray:
        dlib = import_dlib()
        boxes = [dlib.rectangle(*(round(v) for v in face.box)) for face in faces]
        return np.array([self._embed.compute_face_descriptor(image, self._predict(image, box)) for box in boxes])


class ProbeEmbedder:
    """The toon world's attribute probe; it sees the face framed as in the photos it was trained on."""

    def __init__(self, path: str):
        from pm.toon.probe import RESOLUTION, load_probe

        self._probe, self._size = load_probe(path), RESOLUTION

    def __call__(self, image: np.ndarray, faces: Sequence[Face]) -> np.ndarray:
        height, width, _ = image.shape
        photo, size = Image.fromarray(image), (self._size, self._size)
        boxes = [square_box(face.box, width, height, _PROBE_SHARE) for face in faces]
        crops = [photo.resize(size, Image.Resampling.BILINEAR, box=box) for box in boxes]
        return self._probe.embed(np.stack([np.asarray(crop) for crop in crops]))


def make_detector(config: FaceConfig, root: str | Path, device: str = "cpu") -> Detector:
    """The detector that `face=` names.

    Raises:
        ConfigError: what it needs is not installed.
        CheckpointError: its weights are not there.
    """
    if config.name == "sidecar":
        return SidecarDetector(root)
    if config.name == "insightface":
        return InsightFaceDetector(config.pack, config.max_side, config.threshold, device)
    return DlibDetector(config.upsample, config.max_side)


def make_embedder(name: str, probe: str | None, face: FaceConfig | None = None, device: str = "cpu") -> Embedder | None:
    """The embedder that `embedder=` names; None for "none". `face` names the pack of `insightface`.

    Raises: as `make_detector`.
    """
    if name == "none":
        return None
    if name == "insightface":
        return ArcFaceEmbedder(face.pack, face.max_side, face.threshold, device)
    return DlibEmbedder() if name == "dlib" else ProbeEmbedder(probe)


def import_dlib() -> ModuleType:
    """dlib, which only real photos need.

    Raises:
        ConfigError: not installed.
    """
    try:
        import dlib
    except ImportError:
        raise ConfigError(f"dlib is not installed; run {install_hint('photos')}, {_OR}") from None
    return dlib


def dlib_model(file: str) -> str:
    """Path of one of dlib's model files, as `face_recognition_models` ships them.

    That package is located and never imported: its `__init__` needs the removed pkg_resources.

    Raises:
        ConfigError: the package or the file is not installed.
    """
    spec = importlib.util.find_spec("face_recognition_models")
    path = Path(spec.origin).parent / "models" / file if spec and spec.origin else None
    if path is None or not path.is_file():
        raise ConfigError(f"dlib's model file {file} is not installed; run {install_hint('photos')}, {_OR}")
    return str(path)


def find_faces(
    photos: Sequence[Photo], root: str | Path, detector: Detector, embedder: Embedder | None, min_size: int
) -> list[Photo]:
    """Give every photo its faces of at least `min_size` pixels (shorter side), boxes clipped to the photo.

    Rejects: no face, only smaller ones, annotations missing or broken.
    """
    return each_kept(photos, lambda photo: _faces_of(photo, root, detector, embedder, min_size))


def _faces_of(photo: Photo, root: str | Path, detector: Detector, embedder: Embedder | None, min_size: int) -> Photo:
    image = read_pixels(root, photo.photo) if detector.needs_pixels or embedder else None
    try:
        found = detector(photo, image)
    except SidecarError as error:
        return photo.rejected(STAGE, error.reason)
    if not found:
        return photo.rejected(STAGE, "no_face", 0, 1)
    faces = [replace(face, box=_clip(face.box, photo.width, photo.height)) for face in found]
    large = [face for face in faces if _size(face) >= min_size]
    if not large:
        return photo.rejected(STAGE, "face_too_small", max(_size(face) for face in faces), min_size)
    if embedder:
        vectors = embedder(image, large)
        large = [replace(f, embedding=tuple(float(v) for v in e)) for f, e in zip(large, vectors, strict=True)]
    return replace(photo, faces=tuple(large))


def _size(face: Face) -> float:
    x0, y0, x1, y1 = face.box
    return max(0.0, min(x1 - x0, y1 - y0))


def _clip(box: Sequence[float], width: int, height: int) -> tuple[float, ...]:
    return tuple(float(min(max(v, 0), limit)) for v, limit in zip(box, (width, height, width, height), strict=True))


def _at_most(image: np.ndarray, side: int) -> tuple[np.ndarray, float]:
    """The image with its longer side at most `side`, and the scale it was multiplied by."""
    scale = min(1.0, side / max(image.shape[:2]))
    if scale == 1.0:
        return image, scale
    size = tuple(max(1, round(v * scale)) for v in (image.shape[1], image.shape[0]))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)), scale
