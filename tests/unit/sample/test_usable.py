"""Photos that cannot be used beside others that can."""

import pickle

import numpy as np
import pytest
from PIL import Image

from pm.errors import RequestError
from pm.photo.crop import CropConfig
from pm.sample.identity import load_references, prepare_all, preparer
from pm.sample.references import Reference, UnusablePhoto
from pm.sample.usable import usable, values_kept

PICTURE = Image.new("RGB", (8, 8))


def refusing(*bad: int):
    def prepare(number: int) -> Reference:
        if number in bad:
            raise UnusablePhoto(f"photo {number + 1}", "no face found")
        return Reference(PICTURE, notes=(f"about {number}",))

    return prepare


def test_what_cannot_be_used_is_left_out_with_a_note():
    kept = usable(4, refusing(0, 2))
    assert [reference.index for reference in kept] == [1, 3]
    assert kept[0].notes == ("photo 1: left out (no face found)", "photo 3: left out (no face found)", "about 1")
    assert kept[1].notes == ("about 3",)
    assert values_kept("weights", [1.0, 2.0, 3.0, 4.0], kept, 4) == [2.0, 4.0]
    assert values_kept("weights", None, kept, 4) is None
    with pytest.raises(RequestError, match="2 weights given for 4 ID images"):
        values_kept("weights", [1.0, 2.0], kept, 4)


def test_strict_refuses_the_first():
    with pytest.raises(RequestError, match="^photo 3: no face found; use another photo, or preprocess=none"):
        usable(4, refusing(2), strict=True)


def test_when_none_remains_each_reason_is_said_in_one_line():
    with pytest.raises(RequestError) as caught:
        usable(2, refusing(0, 1))
    assert str(caught.value) == (
        "none of the 2 ID photos can be used: photo 1: no face found; photo 2: no face found; "
        "use other photos, or preprocess=none to take them as they are"
    )
    with pytest.raises(UnusablePhoto, match="^photo 1: no face found; use another photo"):
        usable(1, refusing(0))


def test_a_mistake_of_the_caller_is_never_left_out(tmp_path):
    for wrong, message in (
        (np.zeros((4, 4), np.float32), "photo 2 is a float32 array"),
        (7, "photo 2 is a int"),
        (tmp_path / "typo.png", "typo.png does not exist"),
    ):
        with pytest.raises(RequestError, match=message):
            prepare_all([PICTURE, wrong], preparer(None))


def test_files_that_cannot_be_read_are_left_out(tmp_path):
    good, bad = tmp_path / "a.png", tmp_path / "b.png"
    PICTURE.save(good)
    bad.write_bytes(b"no picture")
    crop = CropConfig(0.1, 512, 2.0)
    (reference,) = load_references([bad, good], None, None, crop)
    assert reference.path == good and reference.index == 1
    assert reference.notes == (f"{bad}: left out (cannot be read (not an image of a known format))",)
    with pytest.raises(RequestError, match="b.png: cannot be read"):
        load_references([bad, good], None, None, crop, strict=True)


def test_the_error_travels_between_processes():
    error = pickle.loads(pickle.dumps(UnusablePhoto("a.png", "no face found")))
    assert (error.photo, error.why) == ("a.png", "no face found") and "use another photo" in str(error)
