"""The square around a face."""

import math

import numpy as np
import pytest

from pm.photo.crop import face_share, overlap_box, square_box


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
