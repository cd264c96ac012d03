"""Sizes by aspect ratio, and rounded ones."""

import pytest

from pm.errors import RequestError
from pm.sample.sizes import NAMES, SDXL_BUCKETS, aspect_size, rounded, rounding_note


def test_sdxls_trained_sizes_have_about_a_megapixel():
    """Appendix I of its report."""
    assert len(set(SDXL_BUCKETS)) == len(SDXL_BUCKETS) == 41
    assert all(w % 64 == h % 64 == 0 and 0.9 < w * h / 2**20 <= 1.0 for w, h in SDXL_BUCKETS)
    assert {(h, w) for w, h in SDXL_BUCKETS} == set(SDXL_BUCKETS)


@pytest.mark.parametrize(
    ("aspect", "size"),
    [
        ("square", (1024, 1024)),
        ("1:1", (1024, 1024)),
        ("3:4", (896, 1152)),
        ("portrait", (896, 1152)),
        ("2:3", (832, 1216)),
        ("landscape", (1152, 896)),
        ("16:9", (1344, 768)),
        ("wide", (1344, 768)),
        ("tall", (768, 1344)),
        (" 3 : 4 ", (896, 1152)),
        ("3/4", (896, 1152)),
        ("1080x1920", (768, 1344)),
        ("2.35:1", (1536, 640)),
        ("4:1", (2048, 512)),
        ("Square", (1024, 1024)),
    ],
)
def test_at_1024_the_nearest_trained_size_is_taken(aspect, size):
    assert aspect_size(aspect, 1024, 32) == size


@pytest.mark.parametrize("resolution", [64, 512, 768])
@pytest.mark.parametrize("aspect", [*NAMES, "2:3", "4:1", "1:4"])
def test_elsewhere_the_area_is_the_bases(aspect, resolution):
    width, height = aspect_size(aspect, resolution, 8)
    assert width % 8 == height % 8 == 0
    assert width * height == pytest.approx(resolution**2, rel=0.15)
    flipped = {"portrait": "landscape", "tall": "wide"}.get(aspect)
    assert flipped is None or aspect_size(flipped, resolution, 8) == (height, width)


@pytest.mark.parametrize(
    "aspect", ["", "3", "3:", "3:0", "0:3", "-3:4", "a:b", "nan:1", "5:1", "1:4.1", "potrait", "3:4:5"]
)
def test_no_such_ratio_is_one_line(aspect):
    with pytest.raises(RequestError, match=r"aspect='.*(no ratio|out of range; use 1:4 to 4:1)"):
        aspect_size(aspect, 1024, 32)


def test_sides_go_to_the_nearest_step():
    assert [rounded(v, 32) for v in (1, 15, 1000, 1008, 1024, 1039, 1040)] == [32, 32, 992, 1024, 1024, 1024, 1056]
    assert [rounded(v, 8) for v in (0, -8)] == [0, -8]  # no sizes at all: refused by who checks
    assert rounding_note(1024, None, 32) is None
    assert rounding_note(1000, 1024, 32) == "width=1000 is no multiple of 32, 992 is taken"
    assert rounding_note(1000, 7, 32).count("is taken") == 2
