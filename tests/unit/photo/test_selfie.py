"""MediaPipe's segmentation on real photographs."""

import numpy as np
import pytest
from support.faces import ASTRONAUTS_FACE, astronaut, people

from pm.photo.crop import CropConfig, cut_square
from pm.photo.defaults import shipped_preparation
from pm.photo.masks.select import face_overlap, select_mask
from pm.photo.masks.selfie import SelfieMasker
from pm.photo.prepare import Prepared, prepare
from pm.photo.types import Crop, Face, PhotoView

pytest.importorskip("cv2")
FACE = Face(tuple(map(float, ASTRONAUTS_FACE)), (), 1.0)


@pytest.fixture(scope="module")
def masker() -> SelfieMasker:
    return SelfieMasker()


@pytest.fixture(scope="module")
def crop() -> Crop:
    return cut_square(PhotoView.of(astronaut()), FACE, CropConfig(0.1, 512, 2.0))


def test_the_person_is_told_from_the_background(masker, crop):
    (mask,) = masker(crop)
    assert mask.shape == crop.pixels.shape[:2] and mask.dtype == np.uint8
    assert face_overlap(mask, crop.face) > 0.9
    side = len(mask)
    assert mask[-1, side // 2] == 255  # the suit
    assert mask[: side // 8, : side // 8].max() < 64 and mask[: side // 8, -side // 8 :].max() < 64


def test_it_is_the_same_at_every_size_and_every_time(masker, crop):
    def at(side):
        scale = side / len(crop.pixels)
        pixels = np.asarray(astronaut())[crop.box[1] : crop.box[3], crop.box[0] : crop.box[2]]
        from pm.photo.pixels import Image, resize

        face = tuple(v * scale for v in crop.face)
        return Crop(crop.photo, crop.box, face, np.asarray(resize(Image.fromarray(pixels), side)))

    first, again, large = masker(at(256))[0], masker(at(256))[0], masker(at(700))[0]
    assert np.array_equal(first, again) and large.shape == (700, 700)
    small = np.asarray([row[:: 700 // 256] for row in large[:: 700 // 256]])[:256, :256] >= 128
    assert abs(small.mean() - (first >= 128).mean()) < 0.05


def test_people_who_do_not_touch_are_told_apart(masker):
    two = np.full((256, 512, 3), 120, np.uint8)
    for left in (0, 256):
        two[:, left : left + 256] = astronaut(256)
    two[:, 236:276] = 120
    square = np.full((512, 512, 3), 120, np.uint8)
    square[256:] = two
    faces = [tuple(v * 2 / 3 + o for v, o in zip(ASTRONAUTS_FACE, (x, 256) * 2, strict=True)) for x in (0, 256)]
    chosen = []
    for face in faces:
        crop = Crop(PhotoView.of(square), (0, 0, 512, 512), face, square)
        candidates = masker(crop)
        chosen.append(select_mask(crop, candidates, 0.5, 0.97) >= 128)
        assert len(candidates) >= 2
    assert not (chosen[0] & chosen[1]).any()


def test_where_nobody_is_there_is_no_mask(masker):
    grey = np.full((300, 300, 3), 128, np.uint8)
    assert masker(Crop(PhotoView.of(grey), (0, 0, 300, 300), (100.0, 100.0, 200.0, 200.0), grey)) == []


@pytest.mark.skipif(not people(), reason="the photographs are not here")
def test_the_defaults_keep_every_portrait():
    how = shipped_preparation()
    detector, masker = how.face.build(), how.mask.build()
    for name, pixels in people().items():
        done = prepare(PhotoView.of(pixels), how, detector, masker)
        assert isinstance(done, Prepared), (name, done)
        assert 0.5 < (done.mask >= 128).mean() < 0.85, name
