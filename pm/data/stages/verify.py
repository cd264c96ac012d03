"""Stage 3: which face is the person's, and which photos show somebody else (paper section 3.3, "ID verification")."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pm.data.config import VerifyConfig
from pm.data.records import Photo, groups

STAGE = "verify"
_BLOCK = 128  # faces compared with all others at a time
_MAD_TO_SIGMA = 1.4826  # makes the median absolute deviation an estimate of a normal distribution's sigma


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


def outlying(embeddings: np.ndarray, config: VerifyConfig, min_spread: float) -> np.ndarray:
    """`deviations` of n photos [n, E] after at most `config.rounds` rounds, each without those rejected before it.

    Many intruders widen the spread and hide each other; once the plainest are gone, the others show. The paper
    has one round. A rejected photo keeps the deviation that it was rejected for.
    """
    left, beyond = np.arange(len(embeddings)), np.zeros(len(embeddings))
    for _ in range(config.rounds):
        beyond[left] = deviations(similarity_sums(embeddings[left]), config.spread, min_spread)
        inside = left[beyond[left] <= config.threshold]
        if len(inside) == len(left):
            break
        left = inside
    return beyond


def verify(photos: Sequence[Photo], config: VerifyConfig, embedder: str, min_photos: int) -> list[Photo]:
    """Leave each photo one face, whole identities at a time, and reject photos of somebody else.

    A group whose faces lie too far apart for one person (`max_distance`, beyond the paper) is rejected as
    `no_common_person`: nobody knows who was meant. With `rule="none"` the largest face is taken and no photo rejected.
    Identities that keep fewer than `min_photos` are rejected whole. `embedder` names what made the embeddings.
    """
    result = {photo.photo: photo for photo in photos}
    for members in groups(photos).values():
        checked = [_largest(p) for p in members] if config.rule == "none" else _verified(members, config, embedder)
        result.update((photo.photo, photo) for photo in checked)
    return require_photos(list(result.values()), min_photos, STAGE)


def _verified(members: Sequence[Photo], config: VerifyConfig, embedder: str) -> list[Photo]:
    embeddings = [np.array([face.embedding for face in photo.faces]) for photo in members]
    chosen = select_faces(embeddings)
    vectors = np.stack([e[i] for e, i in zip(embeddings, chosen, strict=True)])
    beyond = outlying(vectors, config, config.min_spread[embedder])
    apart = float(np.median(-similarity_sums(vectors))) / max(1, len(vectors) - 1)
    most = (config.max_distance or {}).get(embedder) or np.inf
    result = []
    for photo, index, value in zip(members, chosen, beyond, strict=True):
        photo = replace(photo, faces=(photo.faces[index],))
        if apart > most:
            result.append(photo.rejected(STAGE, "no_common_person", apart, most))
            continue
        other = value > config.threshold
        result.append(photo.rejected(STAGE, "other_person", value, config.threshold) if other else photo)
    return result


def _largest(photo: Photo) -> Photo:
    return replace(photo, faces=(max(photo.faces, key=lambda f: (f.box[2] - f.box[0]) * (f.box[3] - f.box[1])),))


def require_photos(photos: Sequence[Photo], min_photos: int, stage: str) -> list[Photo]:
    """Reject identities with fewer than `min_photos` photos whole: there would be nothing to refer to."""
    counts = {identity: len(members) for identity, members in groups(photos).items()}
    return [
        photo.rejected(stage, "too_few_photos", counts[photo.identity], min_photos)
        if not photo.reject and counts[photo.identity] < min_photos
        else photo
        for photo in photos
    ]
