"""The copy-paste measure, and poses and expressions from landmarks that were made with known ones."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pm.evaluate.following import _HEAD, angles, copied, expression_changes, pose_of, turns


def landmarks(yaw=0.0, pitch=0.0, roll=0.0, scale=60.0, smile=0.0):
    """Five points of the head turned so (degrees), anywhere in a photo; a smile widens and lifts the mouth."""
    head = _HEAD.copy()
    head[3:] += np.array([[-smile, -smile, 0], [smile, -smile, 0]])
    turned = head @ Rotation.from_euler("YXZ", [yaw, pitch, roll], degrees=True).as_matrix().T
    return turned[:, :2] * scale + (310, 220)


def test_a_copy_is_one_another_photo_is_minus_one_and_the_middle_is_zero():
    def value(at, reference=0.0, other=4.0):
        return copied(
            np.array([abs(at - reference)]), np.array([abs(at - other)]), np.array([[abs(other - reference)]])
        )

    assert [value(at) for at in (0.0, 1.0, 2.0, 4.0, 9.0)] == [1, 0.5, 0, -1, -1]


def test_several_photos_count_together_and_never_leave_the_range():
    rng = np.random.default_rng(0)
    for _ in range(50):
        points = rng.normal(size=(7, 3))
        apart = np.linalg.norm(points[:, None] - points[None], axis=-1)
        assert -1 <= copied(apart[0, 1:4], apart[0, 4:], apart[1:4, 4:]) <= 1


def test_photos_that_do_not_differ_say_nothing():
    assert copied(np.ones(1), np.ones(1), np.zeros((1, 1))) is None
    assert copied(np.ones(1), np.empty(0), np.empty((1, 0))) is None


def test_angles_are_a_distance():
    rows = np.eye(3)
    assert angles(rows, rows) == pytest.approx((1 - np.eye(3)) * np.pi / 2)


@pytest.mark.parametrize("yaw, pitch, roll", [(0, 0, 0), (25, 0, 0), (-30, 10, 15), (10, -20, -40), (0, 15, 70)])
def test_the_pose_is_found_wherever_the_face_is(yaw, pitch, roll):
    wanted = Rotation.from_euler("YXZ", [yaw, pitch, roll], degrees=True).as_matrix()
    for scale in (8.0, 300.0):
        pose = pose_of(landmarks(yaw, pitch, roll, scale))
        assert pose.rotation == pytest.approx(wanted, abs=1e-3)
        assert pose.expression == pytest.approx(0, abs=1e-3)


def test_turns_count_the_pose_and_changes_the_mouth():
    straight, turned = pose_of(landmarks()), pose_of(landmarks(yaw=20, roll=5))
    smiling = pose_of(landmarks(yaw=20, roll=5, smile=0.1))
    assert np.degrees(turns([straight], [turned, straight]))[0] == pytest.approx(np.array([20.6, 0]), abs=0.1)
    (change, none), (still, _) = expression_changes([turned, straight], [smiling, turned])
    assert change > 0.05 and still > 0.05 and none == pytest.approx(0, abs=1e-3)
    assert np.degrees(turns([turned], [smiling]))[0, 0] < 5  # a smile is hardly taken for a turn
