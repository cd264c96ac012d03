"""Face embeddings of ID photos, for adapters that were trained with them (PhotoMaker V2).

The adapter's metadata says which embedder made those of its training; vectors of another say nothing to it.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from pm.errors import CheckpointError
from pm.model.adapter_file import AdapterMeta
from pm.model.config import FaceEmbedding
from pm.model.photomaker_v2 import face_of
from pm.photo.crop import overlap_box
from pm.photo.defaults import shipped_part, shipped_preparation
from pm.photo.embedders.embed import Embedder, EmbedderChoice
from pm.photo.faces.detect import FaceChoice
from pm.photo.pixels import flatten
from pm.photo.prepare import select_face, usable_faces
from pm.photo.stored import Preparation
from pm.photo.types import Face, PhotoView, Refusal
from pm.sample.references import Reference, UnusablePhoto, detector_of, preparation_of
from pm.weights import fingerprint

PUBLISHED = "insightface"  # what the published V2 weights were trained with
_WAY_OUT = "use another photo: this adapter needs to see the face"


@dataclass(frozen=True)
class FaceReader:
    """Gives references the embedding of their face. Models are loaded when the first photo comes."""

    wanted: FaceEmbedding
    embedder: EmbedderChoice
    detector: FaceChoice  # for photos whose face was not found yet, or not with the landmarks that the embedder needs
    pick: str = "largest"

    def prepare(self) -> None:
        """Load the models now: a server should not start without them.

        Raises:
            PmError: one of them is not there, or the embedder's is not that of the adapter's training.
        """
        _embedder(self.embedder)
        self._check_weights()
        detector_of(self.detector)

    def __call__(self, reference: Reference, image: Image.Image, name: str) -> Reference:
        """The reference with the embedding of its face.

        Args:
            reference: what was made of a photo.
            image: the photo itself, upright, of which `reference.face` is in pixels.
            name: of the photo, for messages.

        Raises:
            UnusablePhoto: there is no face on it.
            CheckpointError: the embedder is not there, or not that of the adapter's training.
        """
        if reference.face is not None and reference.face.embedding:
            return reference
        pixels = np.asarray(flatten(image))
        face = self._face(PhotoView.of(pixels), reference, name)
        return replace(reference, face=replace(face, embedding=self.embed(pixels, face)))

    def embed(self, pixels: np.ndarray, face: Face) -> tuple[float, ...]:
        """The embedding of one face on a photo, uint8 RGB [H, W, 3]; E numbers."""
        self._check_weights()
        found = _embedder(self.embedder)(pixels, [face])[0]
        if len(found) != self.wanted.width:
            raise CheckpointError(
                f"embedder={self.embedder.name} makes {len(found)} numbers of a face, the adapter takes "
                f"{self.wanted.width}; choose the embedder that it was trained with"
            )
        return tuple(float(v) for v in found)

    def _face(self, photo: PhotoView, reference: Reference, name: str) -> Face:
        known, needed = reference.face, self.embedder.landmarks
        if known is not None and needed in (None, reference.landmarks):
            return known
        detector = detector_of(self.detector)
        if known is None:
            found = select_face(photo, detector, 1, self.pick)
            if isinstance(found, Refusal):
                raise UnusablePhoto(name, found.sentence(), _WAY_OUT)
            return found.face
        faces = usable_faces(photo, detector, 1)
        if isinstance(faces, Refusal):
            raise UnusablePhoto(name, faces.sentence(), _WAY_OUT)
        return max(faces, key=lambda face: _overlap(face.box, known.box))

    def _check_weights(self) -> None:
        made = replace(self.wanted, embedder=self.embedder.name, weights=_weights(self.embedder))
        if self.wanted.differs(made):
            raise CheckpointError(
                f"the adapter was trained with face embeddings of {self.wanted}, the files of "
                f"embedder={self.embedder.name} are others ({made.weights}); use those that made its dataset"
            )


def reader_for(
    meta: AdapterMeta | None,
    embedder: EmbedderChoice | None = None,
    photo: Preparation | None = None,
    pick: str = "largest",
) -> FaceReader | None:
    """What reads the faces for an adapter; None: it takes no face embeddings.

    Args:
        meta: of the adapter; None: the base alone.
        embedder: as configured; None: that of the adapter's training, with the settings of `conf/embedder`.
        photo: how photographs are prepared where the metadata does not say; None: as `conf/` has it.
        pick: of several faces, as in `pm.photo.prepare.select_face`.

    Raises:
        CheckpointError: the embedder is not that of the adapter's training, or nothing finds the faces that it needs.
    """
    wanted = None if meta is None else face_of(meta)
    if wanted is None:
        return None
    name = wanted.embedder or PUBLISHED
    if embedder is None:
        embedder = shipped_part(EmbedderChoice, name)
    if embedder is None:
        raise CheckpointError(
            f"the adapter was trained with face embeddings of embedder={name}, which is not one of ours; give embedder="
        )
    if wanted.embedder and embedder.name != wanted.embedder:
        raise CheckpointError(
            f"the adapter was trained with face embeddings of embedder={wanted.embedder}, and embedder={embedder.name} "
            f"is another; choose embedder={wanted.embedder}, or leave it out"
        )
    return FaceReader(wanted, embedder, _detector_for(embedder, meta, photo), pick)


def face_embeds(references: Sequence[Reference]) -> list[tuple[float, ...]] | None:
    """The embeddings of references that have them, for `Request.face_embeds`; None: they have none."""
    found = [reference.face.embedding for reference in references if reference.face is not None]
    return found if found and len(found) == len(references) and all(found) else None


def _detector_for(embedder: EmbedderChoice, meta: AdapterMeta | None, photo: Preparation | None) -> FaceChoice:
    """As in training where that can be done with a user's photos, which have no annotations."""
    trained = preparation_of(meta)
    choices = [(photo or shipped_preparation()).face, shipped_preparation().face]
    if trained is not None:
        portrait = shipped_part(FaceChoice, "portrait")
        first = portrait if trained.face.name == "sidecar" else trained.face
        choices = [*([] if first is None else [first]), *choices]
    suits = (face for face in choices if embedder.landmarks in (None, face.landmarks))
    found = next(suits, None)
    if found is None:
        embedder.check(choices[0])  # says which detector does
    return found or choices[0]


@functools.lru_cache(maxsize=4)  # it reads its model from disk
def _embedder(choice: EmbedderChoice) -> Embedder:
    built = choice.build()
    if built is None:
        raise CheckpointError(f"embedder={choice.name} embeds no faces; choose another")
    return built


@functools.lru_cache(maxsize=4)  # a pack has hundreds of megabytes
def _weights(choice: EmbedderChoice) -> str:
    there = [file for file in choice.weights() if file.is_file()]
    return fingerprint(*there) if there else ""


def _overlap(a: Sequence[float], b: Sequence[float]) -> float:
    x0, y0, x1, y1 = overlap_box(a, b)
    return (x1 - x0) * (y1 - y0)
