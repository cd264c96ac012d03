import math

import numpy as np
import pytest

from pm.data.config import CropConfig
from pm.data.records import Face, Photo
from pm.data.stages.crop import crop_photos, face_share, overlap_box, square_box
from pm.photo.pixels import decode_png


def random_cases(count: int = 300):
    rng = np.random.default_rng(0)
    for _ in range(count):
        width, height = (int(v) for v in rng.integers(40, 900, 2))
        side = rng.uniform(8, 0.9 * min(width, height))
        aspect = rng.uniform(0.75, 1.33)
        w, h = min(width, side * math.sqrt(aspect)), min(height, side / math.sqrt(aspect))
        x0, y0 = rng.uniform(0, width - w), rng.uniform(0, height - h)
        yield (x0, y0, x0 + w, y0 + h), width, height, float(rng.uniform(0.05, 0.5))


def test_crop_is_a_square_of_whole_pixels_inside_the_photo_around_the_face():
    for face, width, height, share in random_cases():
        x0, y0, x1, y1 = square_box(face, width, height, share)
        assert all(isinstance(v, int) for v in (x0, y0, x1, y1))
        assert x1 - x0 == y1 - y0 > 0
        assert 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height


def test_face_fills_its_share_and_the_crop_is_as_large_as_that_allows():
    for face, width, height, share in random_cases():
        box = square_box(face, width, height, share)
        side, area = box[2] - box[0], (face[2] - face[0]) * (face[3] - face[1])
        assert side == min(width, height) or area / (side + 1) ** 2 < share
        if max(face[2] - face[0], face[3] - face[1]) + 1 <= side:  # a whole pixel of room for rounding
            assert face_share(face, box) >= share * (1 - 1e-9) or overlap_box(face, box) != pytest.approx(face)


def test_face_is_in_the_middle_unless_the_border_is_near():
    x0, y0, x1, y1 = square_box((450, 480, 550, 520), 1000, 1000, 0.1)
    assert abs((x0 + x1) / 2 - 500) <= 0.5 and abs((y0 + y1) / 2 - 500) <= 0.5
    assert square_box((0, 0, 100, 100), 1000, 1000, 0.1) == (0, 0, 316, 316)
    assert square_box((900, 900, 1000, 1000), 1000, 1000, 0.1) == (684, 684, 1000, 1000)


def test_crop_holds_the_photos_own_pixels(tmp_path):
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    photo = Photo("x", "a.png", width=90, height=60, faces=(Face((60.0, 5.0, 80.0, 25.0), (), 1.0, ()),))
    config = CropConfig(face_share=0.25, working_side=512, max_upscale=4)
    done = crop_photos([photo], tmp_path, config, least_side=32)[0]
    x0, y0, x1, y1 = (int(v) for v in done.crop_box)
    assert x1 - x0 == 40
    assert np.array_equal(np.asarray(decode_png(done.crop, "RGB")), pixels[y0:y1, x0:x1])
    assert decode_png(crop_photos([photo], tmp_path, config, least_side=64)[0].crop, "RGB").size == (64, 64)
    small = CropConfig(face_share=0.25, working_side=16, max_upscale=4)
    assert decode_png(crop_photos([photo], tmp_path, small, least_side=8)[0].crop, "RGB").size == (16, 16)


def test_a_face_that_no_square_of_the_photo_can_show_is_rejected(tmp_path):
    photo = Photo("x", "a.png", width=1000, height=20, faces=(Face((0.0, 0.0, 600.0, 2.0), (), 1.0, ()),))
    done = crop_photos([photo], tmp_path, CropConfig(face_share=0.2, working_side=64, max_upscale=4), least_side=8)[0]
    assert done.reject.reason == "face_share" and done.reject.value < done.reject.threshold == 0.2


def test_crops_are_enlarged_up_to_the_limit_and_rejected_beyond(tmp_path):
    from PIL import Image

    Image.new("RGB", (200, 200), "grey").save(tmp_path / "a.png")
    photo = Photo("x", "a.png", width=200, height=200, faces=(Face((90.0, 90.0, 110.0, 110.0), (), 1.0, ()),))
    config = CropConfig(face_share=0.25, working_side=512, max_upscale=2)  # a crop of 40 pixels
    assert decode_png(crop_photos([photo], tmp_path, config, least_side=80)[0].crop, "RGB").size == (80, 80)
    done = crop_photos([photo], tmp_path, config, least_side=81)[0]
    assert (done.reject.reason, done.reject.value, done.reject.threshold) == ("upscaled", 81 / 40, 2)
