import numpy as np
import pytest
from PIL import Image
from unit.data.support import write_photo

from pm.data.ingest import find_photos, ingest, listing_digest
from pm.data.pixels import read_photo
from pm.errors import DataError


def test_every_photo_is_found_sorted_and_passes(root):
    photos = find_photos(root)
    assert [p.photo for p in photos] == [f"p{i}_man/{k}.png" for i in range(3) for k in range(4)]
    done = ingest(photos, root, min_side=64)
    assert not any(p.reject for p in done) and len({p.sha256 for p in done}) == 12
    assert {(p.width, p.height) for p in done} == {(64, 64)}


def test_bad_photos_become_rows_with_a_reason(root):
    whole = (root / "p0_man" / "0.png").read_bytes()
    (root / "p0_man" / "1.png").write_bytes(whole[: len(whole) // 2])
    (root / "p0_man" / "2.png").write_bytes(b"")
    (root / "p0_man" / "3.heic").write_bytes(b"not an image")
    (root / "p1_man" / "copy.png").write_bytes((root / "p1_man" / "0.png").read_bytes())
    write_photo(root / "p2_man" / "small.png", 5, size=48)
    (root / "loose.png").write_bytes(whole)
    (root / "notes.txt").write_text("no photo")
    (root / "p0_man" / ".DS_Store").write_text("no photo")
    photos = find_photos(root)
    done = {p.photo: p.reject for p in ingest(photos, root, min_side=50)}
    assert len(done) == len(photos) == 16
    reasons = {name: reject.reason for name, reject in done.items() if reject}
    assert reasons == {
        "loose.png": "no_identity_folder",
        "p0_man/1.png": "unreadable",
        "p0_man/2.png": "unreadable",
        "p0_man/3.heic": "unreadable",
        "p1_man/copy.png": "duplicate",
        "p2_man/small.png": "too_small",
    }
    assert (done["p2_man/small.png"].value, done["p2_man/small.png"].threshold) == (48, 50)


def test_exif_orientation_is_applied(tmp_path):
    pixels = np.zeros((20, 30, 3), np.uint8)
    pixels[:, :10] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=exif, quality=100)
    upright = read_photo(tmp_path / "a.jpg")
    assert upright.shape == (30, 20, 3)
    assert upright[:8].mean() > 240 and upright[12:].mean() < 15


def test_transparency_becomes_white_and_grey_becomes_rgb(tmp_path):
    Image.new("RGBA", (8, 8), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    Image.new("L", (8, 8), 100).save(tmp_path / "grey.png")
    assert (read_photo(tmp_path / "clear.png") == 255).all()
    assert (read_photo(tmp_path / "grey.png") == 100).all() and read_photo(tmp_path / "grey.png").shape == (8, 8, 3)


def test_huge_photos_are_refused_before_they_are_decoded(tmp_path, monkeypatch):
    Image.new("RGB", (64, 64)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ValueError, match="decompression bomb"):
        read_photo(tmp_path / "bomb.png")


@pytest.mark.parametrize("make", [lambda p: None, lambda p: p.mkdir(), lambda p: p.write_text("file")])
def test_missing_or_empty_roots_say_what_is_expected(tmp_path, make):
    make(tmp_path / "photos")
    with pytest.raises(DataError, match="<root>/<person>_<class word>/<photo>") as caught:
        find_photos(tmp_path / "photos")
    assert "\n" not in str(caught.value) and str(tmp_path / "photos") in str(caught.value)


def test_photos_without_folders_say_so(tmp_path):
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="only 1 photos outside any identity folder"):
        find_photos(tmp_path)


def test_listing_digest_follows_photos_and_sidecars_not_the_place(root, tmp_path):
    import shutil

    first = listing_digest(root, find_photos(root))
    copy = shutil.copytree(root, tmp_path / "elsewhere")
    assert listing_digest(copy, find_photos(copy)) == first
    (copy / "p0_man" / "0.json").write_text("{}")
    second = listing_digest(copy, find_photos(copy))
    (copy / "p0_man" / "1.png").unlink()
    assert len({first, second, listing_digest(copy, find_photos(copy))}) == 3
