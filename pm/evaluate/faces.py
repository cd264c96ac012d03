"""The face of a picture and its embedding, found once for all metrics that need it."""

import functools
from collections.abc import Hashable, Sequence
from dataclasses import replace

import numpy as np
from cachetools import LRUCache

from pm.errors import CheckpointError, ConfigError
from pm.evaluate.metrics.base import Model
from pm.evaluate.models.features import as_rgb, digest, unit
from pm.evaluate.models.files import fingerprint_of_parts
from pm.photo.embedders.embed import EmbedderChoice
from pm.photo.faces.detect import FaceChoice
from pm.photo.prepare import select_face
from pm.photo.types import Face, PhotoView, Refusal

_REMEMBERED = 8192


class FaceFinder:
    """The largest face of each picture, of at least the choice's `min_size`."""

    def __init__(self, choice: FaceChoice, device: str):
        """Raises CheckpointError: the detector cannot be had."""
        self._detector = _built(lambda: choice.build(device))
        self._least = choice.min_size
        self._known: LRUCache[Hashable, Face | None] = LRUCache(_REMEMBERED)
        self.model = Model(choice.name, fingerprint_of_parts(choice))

    def __call__(self, images: Sequence[np.ndarray]) -> list[Face | None]:
        return [self._find(image) for image in images]

    def _find(self, image: np.ndarray) -> Face | None:
        key = digest(image)
        if key not in self._known:
            found = select_face(PhotoView.of(as_rgb(image)), self._detector, self._least)
            self._known[key] = None if isinstance(found, Refusal) else found.face
        return self._known[key]


class FaceEmbedder:
    """The embedding of the largest face of each picture, of unit length: a dot product is a cosine."""

    def __init__(self, face: FaceChoice, embedder: EmbedderChoice, device: str):
        """Raises CheckpointError: detector or embedder cannot be had."""
        self.finder = face_finder(face, device)
        built = _built(lambda: embedder.build(device))
        if built is None:
            raise CheckpointError(f"embedder={embedder.name} compares no faces; choose another")
        self._embed = built
        self._known: LRUCache[Hashable, np.ndarray | None] = LRUCache(_REMEMBERED)
        self.model = Model(f"{face.name} + {embedder.name}", fingerprint_of_parts(face, embedder))

    def __call__(self, images: Sequence[np.ndarray]) -> list[np.ndarray | None]:
        """[E] of each; None where there is no face."""
        return [self._of(image) for image in images]

    def _of(self, image: np.ndarray) -> np.ndarray | None:
        key = digest(image)
        if key not in self._known:
            (face,) = self.finder([image])
            if face is not None:
                face = replace(face, embedding=())
            rows = None if face is None else np.asarray(self._embed(as_rgb(image), [face]), np.float64)
            self._known[key] = None if rows is None else unit(rows)[0]
        return self._known[key]


@functools.lru_cache(maxsize=4)
def face_finder(face: FaceChoice, device: str) -> FaceFinder:
    """One for all metrics with the same choice. Raises CheckpointError as `FaceFinder` does."""
    return FaceFinder(face, device)


@functools.lru_cache(maxsize=4)
def face_embedder(face: FaceChoice, embedder: EmbedderChoice, device: str) -> FaceEmbedder:
    """One for all metrics with the same choices. Raises CheckpointError as `FaceEmbedder` does."""
    return FaceEmbedder(face, embedder, device)


def _built(build):
    try:
        return build()
    except ConfigError as error:  # not installed: only this metric is missing
        raise CheckpointError(str(error)) from error
