"""`verify=similarity`: the face most similar to all others of the person, and no photo far below the others."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Gt

from pm.data.records import Photo
from pm.data.verify.choice import VerifyChoice
from pm.errors import ConfigError
from pm.photo.embedders.embed import Distances, EmbedderChoice

STAGE = "verify"
_BLOCK = 128  # faces compared with all others at a time
_MAD_TO_SIGMA = 1.4826  # makes the median absolute deviation an estimate of a normal distribution's sigma


@dataclass(frozen=True)
class Similarity(VerifyChoice):
    """Paper section 3.3, "ID verification".

    How far apart the faces of one person lie is the embedder's to say (`Distances`). A group whose faces lie too far
    apart for one person (beyond the paper) is rejected as `no_common_person`: nobody knows who was meant.
    """

    threshold: Annotated[float, Gt(0)]  # standard deviations
    spread: Literal["group", "robust"]  # how the standard deviation is estimated, see `deviations`
    rounds: Annotated[int, Ge(1)]  # of rejection, at most; the paper has one
    common_person: bool  # reject groups that lie further apart than the embedder's `max_distance`

    def require(self, embedder: EmbedderChoice) -> None:
        """Needs an embedder that says how far apart its vectors lie."""
        if embedder.name == "none":
            raise ConfigError(
                "verify=similarity compares faces; choose embedder=dlib, insightface or probe, or verify=none"
            )
        if not isinstance(embedder, Distances):
            raise ConfigError(
                f"embedder={embedder.name} does not say how far apart the faces of one person lie (its class is no "
                "Distances of pm.photo.embedders.embed); choose another embedder, or verify=none"
            )

    def depends(self, embedder: EmbedderChoice) -> dict[str, Any]:
        """Its own settings and the distances that it asks for."""
        min_spread, max_distance = self._distances(embedder)
        return asdict(self) | {"min_spread": min_spread, "max_distance": max_distance}

    def _distances(self, embedder: EmbedderChoice) -> tuple[float | None, float | None]:
        """The embedder's `min_spread` and `max_distance`; None: this rule does not ask."""
        assert isinstance(embedder, Distances), "`require` was called"
        spread = embedder.min_spread if self.spread == "robust" else None
        return spread, embedder.max_distance if self.common_person else None

    def judge(self, members: Sequence[Photo], embedder: EmbedderChoice) -> list[Photo]:
        """Each photo with the face that is most similar to all others; those of others are rejected."""
        embeddings = [np.array([face.embedding for face in photo.faces]) for photo in members]
        chosen = select_faces(embeddings)
        vectors = np.stack([e[i] for e, i in zip(embeddings, chosen, strict=True)])
        min_spread, max_distance = self._distances(embedder)
        beyond = self.outlying(vectors, min_spread or 0)
        apart = float(np.median(-similarity_sums(vectors))) / max(1, len(vectors) - 1)
        most = np.inf if max_distance is None else max_distance
        result = []
        for photo, index, value in zip(members, chosen, beyond, strict=True):
            photo = replace(photo, faces=(photo.faces[index],))
            if apart > most:
                photo = photo.rejected(STAGE, "no_common_person", apart, most)
            elif value > self.threshold:
                photo = photo.rejected(STAGE, "other_person", value, self.threshold)
            result.append(photo)
        return result

    def outlying(self, embeddings: np.ndarray, min_spread: float) -> np.ndarray:
        """`deviations` of n photos [n, E] after at most `rounds` rounds, each without those rejected before it.

        Many intruders widen the spread and hide each other; once the plainest are gone, the others show. The paper
        has one round. A rejected photo keeps the deviation that it was rejected for.
        """
        left, beyond = np.arange(len(embeddings)), np.zeros(len(embeddings))
        for _ in range(self.rounds):
            beyond[left] = deviations(similarity_sums(embeddings[left]), self.spread, min_spread)
            inside = left[beyond[left] <= self.threshold]
            if len(inside) == len(left):
                break
            left = inside
        return beyond


def similarity_sums(embeddings: np.ndarray) -> np.ndarray:
    """For each of n embeddings [n, E], the sum of its L2 similarities with all others, float64 [n].

    The paper does not define "L2 similarity"; here it is minus the distance of the unit-length vectors. Rows are
    compared in blocks, so that thousands of faces need no n x n memory.
    """
    vectors = np.asarray(embeddings, dtype=np.float64)
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    sums = np.empty(len(vectors))
    for start in range(0, len(vectors), _BLOCK):
        rows = slice(start, start + _BLOCK)
        squared = np.clip(2 - 2 * vectors[rows] @ vectors.T, 0, None)
        squared[np.arange(len(squared)), np.arange(start, start + len(squared))] = 0  # itself, exactly
        sums[rows] = -np.sqrt(squared).sum(axis=1)
    return sums


def select_faces(embeddings: Sequence[np.ndarray]) -> list[int]:
    """For each photo, the index of its face with the highest similarity sum over all faces of the identity.

    Args:
        embeddings: one [faces of the photo, E] array for each photo.
    """
    counts = [len(e) for e in embeddings]
    sums = np.split(similarity_sums(np.concatenate(list(embeddings))), np.cumsum(counts)[:-1])
    return [int(np.argmax(s)) for s in sums]


def deviations(sums: np.ndarray, spread: str, min_spread: float) -> np.ndarray:
    """How many standard deviations each similarity sum [n] lies below the group's centre (negative: above).

    `group` is the paper's: mean and standard deviation of the group. One intruder among n photos then deviates by at
    most sqrt(n - 1), so 8 is out of reach below 66 photos, and two intruders hide each other. `robust` takes
    the median and the median absolute deviation, which intruders hardly move, at least `min_spread` a pair.
    """
    if spread == "group":
        centre, sigma = sums.mean(), sums.std()
    else:
        centre = np.median(sums)
        sigma = max(_MAD_TO_SIGMA * np.median(np.abs(sums - centre)), min_spread * (len(sums) - 1))
    return (centre - sums) / sigma if sigma > 0 else np.zeros_like(sums)
