"""Photos to pixels."""

import io
import sys

import numpy as np
import pytest
from PIL import Image
from support.faces import astronaut

from pm.photo import pixels
from pm.photo.pixels import PHOTO_SUFFIXES, is_heif, read_photo, upright


def heic(image: Image.Image) -> bytes:
    heif = pytest.importorskip("pillow_heif")
    buffer = io.BytesIO()
    heif.from_pillow(image).save(buffer, quality=95)
    return buffer.getvalue()


def test_heic_is_read(tmp_path):
    photo = astronaut(128)
    (tmp_path / "a.heic").write_bytes(heic(Image.fromarray(photo)))
    read = read_photo(tmp_path / "a.heic")
    assert read.shape == photo.shape and read.dtype == np.uint8
    assert np.abs(read.astype(int) - photo).mean() < 6
    assert {".heic", ".heif"} <= PHOTO_SUFFIXES


def test_without_pillow_heif_the_message_says_what_to_install(monkeypatch, tmp_path):
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    pixels.register_heif.cache_clear()
    monkeypatch.setattr(pixels.Image, "ID", [name for name in Image.ID if name != "HEIF"])
    try:
        with pytest.raises(OSError, match="a HEIC photo, which needs pillow-heif; run pip install"):
            read_photo(tmp_path / "a.heic")
        with pytest.raises(OSError, match="a HEIC photo"):
            read_photo(io.BytesIO((tmp_path / "a.heic").read_bytes()))
    finally:
        pixels.register_heif.cache_clear()


def test_avif_is_no_heif():
    assert is_heif(b"\0\0\0\x18ftypmif1") and not is_heif(b"\0\0\0\x18ftypavif") and not is_heif(b"\xff\xd8\xff")


@pytest.mark.parametrize("orientation, turns", [(1, 0), (3, 2), (6, 3), (8, 1)])
def test_pictures_are_turned_as_their_exif_data_say(orientation, turns):
    photo = Image.fromarray(astronaut(64)[:40])
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    photo.save(buffer, "PNG", exif=exif)
    for turned in (read_photo(buffer), np.asarray(upright(Image.open(buffer)))):
        assert np.array_equal(turned, np.rot90(np.asarray(photo), turns))
