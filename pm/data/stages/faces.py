"""Stage 2: face boxes, landmarks and embeddings (paper section 3.3, "Face detection and filtering")."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pm.data.records import Photo, each_kept, refused
from pm.data.source.beside import view_of
from pm.photo.embedders.embed import Embedder
from pm.photo.faces.detect import Detector
from pm.photo.prepare import STAGE, usable_faces
from pm.photo.types import Refusal

__all__ = ["STAGE", "find_faces"]


def find_faces(
    photos: Sequence[Photo], root: str | Path, detector: Detector, embedder: Embedder | None, min_size: int
) -> list[Photo]:
    """Give every photo its faces of at least `min_size` pixels (shorter side), boxes clipped to the photo.

    Rejects: no face, only smaller ones, annotations missing or broken.
    """
    return each_kept(photos, lambda photo: _faces_of(photo, root, detector, embedder, min_size))


def _faces_of(photo: Photo, root: str | Path, detector: Detector, embedder: Embedder | None, min_size: int) -> Photo:
    view = view_of(photo, root)
    faces = usable_faces(view, detector, min_size)
    if isinstance(faces, Refusal):
        return refused(photo, faces)
    if embedder:
        vectors = embedder(view.pixels, faces)
        faces = tuple(replace(f, embedding=tuple(float(v) for v in e)) for f, e in zip(faces, vectors, strict=True))
    return replace(photo, faces=faces)
