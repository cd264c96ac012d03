"""What is let in as a photo, and what each other thing is told."""

import dataclasses
import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from support.api import photo

from pm.photo.pixels import register_heif
from serving.config import load
from serving.errors import ApiError
from serving.http.photos import decode


@pytest.fixture(scope="module")
def limits():
    return dataclasses.replace(load().limits, photo_pixels=1_000_000, photo_side=64)


def bomb(side: int) -> bytes:
    """A PNG of a few hundred bytes that says it has side x side pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_the_three_formats_are_read(limits, kind):
    found = decode(photo(1, (40, 30), kind), limits, 0)
    assert found.pixels.shape == (30, 40, 3) and found.pixels.dtype == np.uint8 and len(found.digest) == 64


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_large_photos_are_reduced_and_keep_their_shape(limits, kind):
    assert decode(photo(0, (400, 200), kind), limits, 0).pixels.shape == (32, 64, 3)


def test_turned_photos_are_upright_and_transparent_ones_white(limits):
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.new("RGB", (40, 20)).save(buffer, "JPEG", exif=exif)
    assert decode(buffer.getvalue(), limits, 0).pixels.shape == (40, 20, 3)
    buffer = io.BytesIO()
    Image.new("RGBA", (20, 20), (255, 0, 0, 0)).save(buffer, "PNG")
    assert (decode(buffer.getvalue(), limits, 0).pixels == 255).all()


@pytest.mark.parametrize(
    "data, status, fragment",
    [
        (b"", 400, "is empty"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 400, "SVG"),
        (b"\xef\xbb\xbf<?xml version='1.0'?><svg/>", 400, "SVG"),
        (b"GIF89a" + b"\0" * 20, 400, "GIF"),
        (b"\0\0\0\x18ftypavif" + b"\0" * 20, 400, "AVIF"),
        (b"\0\0\0\x18ftypheic" + b"\0" * 20, 400, "damaged" if register_heif() else "HEIC"),
        (b"hello, this is text", 400, "not a photo"),
        (b"\x89PNG\r\n\x1a\n", 400, "damaged"),
        (photo()[:-200], 400, "damaged"),
        (photo(kind="JPEG")[:300], 400, "damaged"),
        (photo(kind="WEBP")[:200], 400, "damaged"),
        (photo()[:60] + b"\0" * 80 + photo()[140:], 400, "damaged"),
        (bomb(30_000), 413, "at most 1000000"),
        (bomb(5_000), 413, "5000x5000"),
        (bomb(900), 400, "damaged"),
        (photo(0, (8, 100)), 400, "at least 16"),
    ],
)
def test_everything_else_is_told_what_it_is(limits, data, status, fragment):
    with pytest.raises(ApiError) as caught:
        decode(data, limits, 3)
    assert caught.value.status == status
    assert fragment in caught.value.message and "image[3]" in caught.value.message
