"""How much a picture follows the photos that a method was shown, beyond being of the same person.

`copied` compares distances; `pose_of` and `expression_of` make of five landmarks what can be compared.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

# A head in front of the camera, x to the right, y down, z away from it, in eye distances from between the eyes: both
# eyes, tip of the nose, both corners of the mouth. Rounded proportions of an adult.
_HEAD = np.array([[-0.5, 0, 0], [0.5, 0, 0], [0, 0.57, -0.4], [-0.41, 1.15, -0.05], [0.41, 1.15, -0.05]])
_MOUTH = slice(3, 5)
# How much each point says of the pose. With all alike, a wide smile is taken for a nod of 15 degrees; so for 3, and the
# noise is no larger.
_WEIGHTS = np.array([[1.0], [1.0], [1.0], [0.3], [0.3]])


@dataclass(frozen=True)
class Pose:
    """Of a head, and what its face does."""

    rotation: np.ndarray  # [3, 3], of the head
    expression: np.ndarray  # [4], where the corners of the mouth are beside where the head's are, in eye distances


def copied(to_references: np.ndarray, to_others: np.ndarray, between: np.ndarray) -> float | None:
    """How much nearer a picture is to the references than to other photos of the same person, as a share of how far
    those are apart: the copy-paste measure of WithAnyone (Xu et al. 2025), over all pairs.

    Args:
        to_references: distances of the picture to each reference, [R].
        to_others: its distances to each of the other photos, [O].
        between: distances of the references to the other photos, [R, O].

    Returns:
        1: as a copy of a reference, 0: as near to both, -1: as a copy of another photo; by the triangle inequality
        never outside. None where the photos do not differ, or there are none.
    """
    apart = float(between.sum())
    if between.size == 0 or apart <= 1e-6 * between.size:
        return None
    return float((to_others[None, :] - to_references[:, None]).sum()) / apart


def angles(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Angles between unit vectors [n, E] and [m, E], in radians: a distance, which 1 - cosine is not."""
    return np.arccos(np.clip(some @ others.T, -1, 1))


def pose_of(landmarks: np.ndarray) -> Pose:
    """The head that five landmarks show best, seen from far away.

    Args:
        landmarks: [5, 2] in pixels: eyes, tip of the nose, corners of the mouth, each from left to right.
    """
    points = np.asarray(landmarks, np.float64)
    eyes = points[1] - points[0]
    scale = max(float(np.linalg.norm(eyes)), 1e-6)
    points = (points - points[:2].mean(0)) / scale
    start = np.array([0, 0, np.arctan2(eyes[1], eyes[0]), 0, 0, 0])

    def seen(values: np.ndarray) -> np.ndarray:
        turned = _HEAD @ Rotation.from_rotvec(values[:3]).as_matrix().T
        return np.exp(values[5]) * turned[:, :2] + values[3:5]

    fitted = least_squares(lambda values: (_WEIGHTS * (seen(values) - points)).ravel(), start, method="lm").x
    rotation = Rotation.from_rotvec(fitted[:3]).as_matrix()
    roll = np.arctan2(rotation[1, 0], rotation[0, 0])
    upright = np.array([[np.cos(roll), np.sin(roll)], [-np.sin(roll), np.cos(roll)]])
    left = ((points - seen(fitted)) / np.exp(fitted[5]))[_MOUTH] @ upright.T
    return Pose(rotation, left.ravel())


def turns(some: list[Pose], others: list[Pose]) -> np.ndarray:
    """Angles between heads [n, m], in radians."""
    a, b = (np.array([pose.rotation for pose in poses]).reshape(-1, 3, 3) for poses in (some, others))
    traces = np.einsum("nij,mij->nm", a, b)
    return np.arccos(np.clip((traces - 1) / 2, -1, 1))


def expression_changes(some: list[Pose], others: list[Pose]) -> np.ndarray:
    """How far the corners of the mouth lie apart [n, m], in eye distances."""
    a, b = (np.array([pose.expression for pose in poses]).reshape(-1, 4) for poses in (some, others))
    return np.linalg.norm(a[:, None] - b[None], axis=-1)
