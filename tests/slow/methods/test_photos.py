"""Photos that a method cannot learn from are named before it starts."""

from dataclasses import replace

import numpy as np
import pytest
from support.methods import photos

from pm.errors import RequestError
from pm.methods.photos import check_photos

GOOD = photos(1)[0]


def test_good_photos_pass():
    check_photos([GOOD, replace(GOOD, mask=None)])


@pytest.mark.parametrize(
    "photo, message",
    [
        (replace(GOOD, image=GOOD.image.astype(np.float32)), r"0.png is no picture \(float32 \[40, 40, 3\]\)"),
        (replace(GOOD, image=GOOD.image[..., 0]), r"0.png is no picture \(uint8 \[40, 40\]\)"),
        (replace(GOOD, image="0.png", name=""), r"photo 2 is no picture \(str\)"),
        (replace(GOOD, image=GOOD.image[:9]), "0.png has 40 x 9 pixels"),
        (replace(GOOD, mask=np.ones((9, 9), bool)), r"0.png has a mask \[9, 9\] for pixels \[40, 40\]"),
    ],
)
def test_bad_photos_are_named(photo, message):
    with pytest.raises(RequestError, match=message):
        check_photos([GOOD, photo])


def test_no_photos():
    with pytest.raises(RequestError, match="no photo of the person is given; one is needed at least"):
        check_photos([])
