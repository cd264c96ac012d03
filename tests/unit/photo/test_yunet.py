"""YuNet on a real photograph."""

import threading

import numpy as np
import pytest
from PIL import Image
from support.faces import ASTRONAUTS_FACE, astronaut, people

from pm.errors import CheckpointError
from pm.photo import opencv
from pm.photo.crop import face_share, overlap_box
from pm.photo.faces.yunet import YuNet, YuNetDetector
from pm.photo.types import PhotoView

pytest.importorskip("cv2")


@pytest.fixture(scope="module")
def detector() -> YuNetDetector:
    return YuNet("yunet", 80, max_side=640, threshold=0.8).build()


def found(detector, pixels):
    return detector(PhotoView.of(pixels))


def close(a, b) -> float:
    """Intersection over union."""
    inside = overlap_box(a, b)
    area = [(v[2] - v[0]) * (v[3] - v[1]) for v in (a, b, inside)]
    return area[2] / (area[0] + area[1] - area[2])


def test_the_face_of_a_photograph_is_found_with_its_landmarks_inside(detector):
    (face,) = found(detector, astronaut())
    assert close(face.box, ASTRONAUTS_FACE) > 0.8 and face.score > 0.85 and face.embedding == ()
    points = np.array(face.landmarks).reshape(5, 2)
    x0, y0, x1, y1 = face.box
    assert ((points > (x0, y0)) & (points < (x1, y1))).all()
    left_eye, right_eye, nose, left_mouth, right_mouth = points
    assert left_eye[0] < nose[0] < right_eye[0] and left_mouth[0] < right_mouth[0]
    assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])


@pytest.mark.parametrize("size", [(150, 150), (1001, 667), (300, 900), (3000, 3000)])
def test_boxes_are_in_pixels_of_the_photo_whatever_its_size(detector, size):
    width, height = size
    side = min(size)
    ground = np.full((height, width, 3), 90, np.uint8)
    left, top = (width - side) // 2, (height - side) // 3
    ground[top : top + side, left : left + side] = astronaut(side)
    (face,) = found(detector, ground)
    expected = [v * side / 384 + offset for v, offset in zip(ASTRONAUTS_FACE, (left, top) * 2, strict=True)]
    assert close(face.box, expected) > 0.75


def test_there_is_no_face_on_a_wall_or_in_noise(detector):
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)).resize((400, 400))
    for pixels in (np.full((200, 300, 3), 128, np.uint8), np.asarray(noise), np.zeros((1, 1, 3), np.uint8)):
        assert found(detector, pixels) == []


def test_threads_share_a_detector(detector):
    photos = [astronaut(side) for side in (200, 333, 512)] * 4
    alone, together = [found(detector, p) for p in photos], [None] * len(photos)

    def work(i):
        together[i] = found(detector, photos[i])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(photos))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == alone


@pytest.mark.skipif(not people(), reason="the photographs are not here")
def test_every_portrait_has_one_face(detector):
    for name, pixels in people().items():
        faces = found(detector, pixels)
        assert len(faces) == 1, name
        assert face_share(faces[0].box, (0, 0, pixels.shape[1], pixels.shape[0])) > 0.1


def test_weights_that_are_not_the_shipped_ones_are_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(opencv, "_FOLDER", tmp_path)
    with pytest.raises(CheckpointError, match=r"yunet_n\.onnx cannot be read .*install the project again"):
        YuNetDetector(640, 0.8)
    (tmp_path / "yunet_n.onnx").write_text("version https://git-lfs.github.com/spec/v1")
    with pytest.raises(CheckpointError, match=r"yunet_n\.onnx is not the file that this version ships"):
        YuNetDetector(640, 0.8)
