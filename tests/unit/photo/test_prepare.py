"""Which face of a photo, and why a photo cannot be used."""

import numpy as np
import pytest

from pm.photo.crop import CropConfig, cut_square
from pm.photo.defaults import shipped_preparation
from pm.photo.embedders.dlib import _brows_to_chin
from pm.photo.prepare import PICKS, SelectedFace, prepare, select_face, usable_faces
from pm.photo.types import Face, PhotoView, Refusal, SidecarMissing

PHOTO = PhotoView.of(np.full((300, 600, 3), 90, np.uint8))


def face(x0: float, side: float, y0: float = 20.0) -> Face:
    return Face((x0, y0, x0 + side, y0 + side), (), 1.0)


def detects(*faces: Face):
    return lambda photo: list(faces)


def test_boxes_are_clipped_and_small_faces_left_out():
    found = usable_faces(PHOTO, detects(face(-40, 100), face(300, 30), face(560, 100, 280)), 40)
    assert [f.box for f in found] == [(0, 20, 60, 120)]


@pytest.mark.parametrize(
    "detector, reason, value, threshold",
    [
        (detects(), "no_face", 0, 1),
        (detects(face(0, 20), face(100, 30)), "face_too_small", 30, 40),
    ],
)
def test_why_no_face_can_be_used(detector, reason, value, threshold):
    assert usable_faces(PHOTO, detector, 40) == Refusal("faces", reason, value, threshold)
    assert select_face(PHOTO, detector, 40) == Refusal("faces", reason, value, threshold)


def test_missing_annotations_are_a_refusal():
    def annotated(photo):
        return photo.annotations

    with pytest.raises(SidecarMissing):
        annotated(PHOTO)
    assert usable_faces(PHOTO, annotated, 1) == Refusal("faces", "no_sidecar")


def test_the_face_asked_for_among_those_in_front():
    left, middle, right, behind = face(60, 60), face(250, 70), face(450, 100), face(5, 40)
    detector = detects(middle, behind, right, left)
    taken = {pick: select_face(PHOTO, detector, 30, pick) for pick in PICKS}
    assert {pick: one.face for pick, one in taken.items()} == {
        "largest": right,
        "left": left,
        "middle": middle,
        "right": right,
    }
    assert taken["left"] == SelectedFace(left, (middle, right), "left")  # nothing of the one behind


def test_every_refusal_is_a_sentence():
    how = shipped_preparation()
    refused = prepare(PHOTO, how, detects(), None)
    assert refused.sentence() == "no face found"
    long = Face((0.0, 0.0, 600.0, 40.0), (), 1.0)
    config = CropConfig(0.2, 64, 2.0)
    assert "of the square around it, needs 20%" in cut_square(PHOTO, long, config).sentence()
    tiny = cut_square(PHOTO, face(100, 20), CropConfig(0.2, 512, 2.0), least_side=200)
    assert tiny.reason == "upscaled" and "enlarged 4.5 times, at most 2.0 is allowed" in tiny.sentence()
    for reason in ("no_mask", "mask_misses_face", "mask_keeps_all", "bad_mask"):
        assert "{" not in Refusal("masks", reason, 0.5, 0.6).sentence()


def test_high_boxes_become_the_squares_that_dlibs_landmarks_know():
    x0, y0, x1, y1 = _brows_to_chin((100.0, 50.0, 200.0, 190.0))
    assert (x0, y0, x1, y1) == pytest.approx((95, 80, 205, 190))
    assert _brows_to_chin((100.0, 50.0, 200.0, 155.0)) == (100.0, 50.0, 200.0, 155.0)
