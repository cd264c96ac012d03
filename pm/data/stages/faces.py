"""Stage 2: face boxes, landmarks and embeddings (paper section 3.3, "Face detection and filtering")."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from pm.data.records import Photo, each_kept, refused
from pm.data.source.beside import view_of
from pm.data.stages.stage import Place, Remedy, Stage, Work
from pm.photo.embedders.embed import Embedder
from pm.photo.faces.detect import Detector
from pm.photo.prepare import STAGE, usable_faces
from pm.photo.types import Refusal
from pm.weights import fingerprint


@dataclass(frozen=True)
class Faces(Stage):
    """What `face=` finds, with the vectors of `embedder=`."""

    name: ClassVar[str] = STAGE
    remedies: ClassVar[Mapping[str, Remedy]] = {"face_too_small": Remedy("face.min_size", limit=80)}

    @property
    def pool(self) -> bool:
        """With a detector or an embedder that is loaded."""
        return self.config.face.holds_model or self.config.embedder.holds_model

    @property
    def gpu(self) -> bool:
        """As either of them."""
        return self.config.face.uses_gpu or self.config.embedder.uses_gpu

    def depends(self) -> dict[str, Any]:
        """The detector with its settings, the embedder by name; of both what is in their files, not where they lie."""
        face, embedder = self.config.face, self.config.embedder
        return {
            "face": asdict(face) | _weights(face.weights()),
            "embedder": {"name": embedder.name} | _weights(embedder.weights()),
        }

    def check(self) -> None:
        """Are the models there?"""
        self.config.face.build()
        self.config.embedder.build()

    def build(self, place: Place) -> list[Work]:
        """One part."""
        root, least = str(self.config.dataset.root), self.config.face.min_size
        detector, embedder = self.config.face.build(place.device), self.config.embedder.build(place.device)
        return [Work(self.name, lambda photos: find_faces(photos, root, detector, embedder, least), per_photo=True)]


def _weights(files: Sequence[Path]) -> dict[str, str]:
    there = [file for file in files if file.is_file()]
    return {"weights": fingerprint(*there)} if there else {}


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
