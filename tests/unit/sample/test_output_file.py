"""Pictures' files: every format says the same of itself, and one reader reads all."""

import numpy as np
import pytest
from PIL import Image

from pm.errors import RequestError
from pm.sample.output_file import SUFFIXES, XMP, picture_bytes, read_about, save_picture

ABOUT = {"prompt": "a man img – été 写真 \"quoted\" \\ 'single'", "seed": 7, "empty": "", "lines": "one\ntwo"}


def noise(width: int = 40, height: int = 30) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("format", SUFFIXES)
def test_what_is_written_is_read(format, tmp_path):
    path = tmp_path / f"a{SUFFIXES[format]}"
    save_picture(path, noise(), ABOUT, format, 90)
    expected = {name: str(value) for name, value in ABOUT.items()}
    assert read_about(path) == read_about(path.read_bytes()) == expected
    with Image.open(path) as image:
        assert image.format == {"jpg": "JPEG"}.get(format, format.upper()) and image.size == (40, 30)
        if format in ("png",):
            assert np.array_equal(np.asarray(image), np.asarray(noise()))


@pytest.mark.parametrize("format", SUFFIXES)
def test_an_xmp_packet_is_where_the_format_has_it(format):
    packet = '<x:xmpmeta xmlns:x="adobe:ns:meta/"/>'
    data = picture_bytes(noise(), ABOUT | {XMP: packet}, format, 90)
    assert packet.encode() in data and read_about(data)[XMP] == packet


def test_quality_is_that_of_the_file():
    sizes = {f: [len(picture_bytes(noise(), {}, f, q)) for q in (10, 60, 95)] for f in ("jpeg", "webp", "png")}
    assert sizes["jpeg"] == sorted(set(sizes["jpeg"])) and sizes["webp"] == sorted(set(sizes["webp"]))
    assert len(set(sizes["png"])) == 1
    import io

    whole = Image.open(io.BytesIO(picture_bytes(noise(), {}, "webp", 100)))
    assert np.array_equal(np.asarray(whole.convert("RGB")), np.asarray(noise()))


def test_pictures_of_others_say_nothing(tmp_path):
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"ASCII\0\0\0taken in Rome"
    noise().save(tmp_path / "camera.jpg", exif=exif)
    noise().save(tmp_path / "plain.webp")
    assert read_about(tmp_path / "camera.jpg") == read_about(tmp_path / "plain.webp") == {}


def test_what_cannot_be_read_or_written_is_one_line(tmp_path):
    (tmp_path / "a.png").write_bytes(b"text")
    for place in (tmp_path / "a.png", tmp_path / "nowhere.png", tmp_path):
        with pytest.raises(RequestError, match="cannot be read .*give a PNG, JPEG or WebP") as caught:
            read_about(place)
        assert "\n" not in str(caught.value)
    with pytest.raises(RequestError, match="does not fit a JPEG .*use format=png"):
        picture_bytes(noise(), {"prompt": "x" * 70_000}, "jpeg", 90)
    with pytest.raises(RequestError, match="format=webp takes 16383 pixels a side, this has 16384"):
        picture_bytes(Image.new("RGB", (16384, 1)), {}, "webp", 90)
