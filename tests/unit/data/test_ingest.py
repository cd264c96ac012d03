import io
import os

import numpy as np
import pytest
from PIL import Image
from support.odd_files import ODD_FILES, _gif, noise
from support.photos import found, ingested, source, write_photo

from pm.data.records import Photo
from pm.data.stages.ingest import ingest, near_duplicates, perceptual_hash
from pm.photo.pixels import read_photo


def test_every_photo_passes_with_its_hash_and_size(root):
    done = ingested(root, 64)
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
    done = {p.photo: p.reject for p in ingested(root, 50)}
    assert len(done) == 16
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
    assert done["p1_man/copy.png"].detail == "same file as p1_man/0.png" and done["p0_man/1.png"].detail


# Any file whatsoever: what lies in the photo root, and what must become of it (None: a good photo).


@pytest.mark.parametrize("name", ODD_FILES, ids=lambda name: name.encode("ascii", "replace").decode())
def test_any_file_whatsoever_is_taken_or_rejected_with_a_reason(tmp_path, name):
    write, reason = ODD_FILES[name]
    folder = tmp_path / "王 o'Neil_woman"
    folder.mkdir()
    write(folder / name)
    (photo,) = ingested(tmp_path, 32, max_pixels=9_000_000, max_bytes=1_000_000, near_duplicate=4)
    assert photo.photo == f"{folder.name}/{name}" and photo.identity == folder.name
    assert (photo.reject and photo.reject.reason) == reason
    if reason in ("too_many_pixels", "too_many_bytes"):
        assert photo.reject.value > photo.reject.threshold > 0
    if reason is None:
        assert (photo.width, photo.height) == (64, 64) and len(photo.sha256) == 64


def test_no_file_starts_an_interpreter(tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_, **__: started.append(1))
    (tmp_path / "anna_woman").mkdir()
    ODD_FILES["program.jpg"][0](tmp_path / "anna_woman" / "program.jpg")
    assert ingested(tmp_path)[0].reject.reason == "unreadable" and not started


def test_a_name_that_is_no_text_is_listed_and_rejected(tmp_path):
    folder = os.fsencode(tmp_path / "anna_woman")
    os.mkdir(folder)
    with open(os.path.join(folder, b"caf\xe9.png"), "wb") as file:
        noise(0).save(file, "PNG")
    (photo,) = ingested(tmp_path)
    assert photo.photo == "anna_woman/caf\\xe9.png" and photo.reject.reason == "unreadable"


def test_sixteen_bits_and_cmyk_look_as_they_should(tmp_path):
    ramp = np.repeat(np.linspace(0, 65535, 64).astype(np.uint16)[None], 64, 0)
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    shown = read_photo(tmp_path / "ramp.png")
    assert shown.shape == (64, 64, 3) and np.abs(shown[0, :, 0].astype(int) - ramp[0] // 257).max() <= 1
    noise(1).save(tmp_path / "rgb.png")
    noise(1, mode="CMYK").save(tmp_path / "cmyk.jpg", quality=98)
    difference = read_photo(tmp_path / "cmyk.jpg").astype(int) - read_photo(tmp_path / "rgb.png")
    assert np.abs(difference).mean() < 8


def test_an_animation_is_its_first_picture(tmp_path):
    _gif(tmp_path / "a.gif")
    difference = read_photo(tmp_path / "a.gif").astype(int) - np.asarray(noise(0))
    assert np.abs(difference).mean() < 12


def test_exif_orientation_is_applied_and_damaged_metadata_does_not_matter(tmp_path):
    pixels = np.zeros((20, 30, 3), np.uint8)
    pixels[:, :10] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=exif, quality=100)
    upright = read_photo(tmp_path / "a.jpg")
    assert upright.shape == (30, 20, 3)
    assert upright[:8].mean() > 240 and upright[12:].mean() < 15
    Image.fromarray(pixels).save(tmp_path / "b.jpg", exif=b"Exif\x00\x00broken" * 3, quality=100)
    assert read_photo(tmp_path / "b.jpg").shape == (20, 30, 3)


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


def test_of_near_duplicates_the_largest_stays_and_other_people_are_not_asked(tmp_path):
    for folder in ("a_man", "b_man"):
        (tmp_path / folder).mkdir()
        noise(1, 200).save(tmp_path / folder / "first.png")
    noise(1, 400).save(tmp_path / "a_man" / "large.png")
    noise(1, 300).save(tmp_path / "a_man" / "again.jpg", quality=60)
    noise(2, 300).save(tmp_path / "a_man" / "other.png")
    rejects = {p.photo: p.reject for p in ingested(tmp_path, near_duplicate=4) if p.reject}
    assert set(rejects) == {"a_man/first.png", "a_man/again.jpg"}
    for reject in rejects.values():
        assert reject.reason == "near_duplicate" and reject.value <= 4 == reject.threshold
        assert reject.detail.endswith("a_man/large.png")
    assert not any(p.reject for p in ingested(tmp_path))


def test_near_duplicates_of_thousands_agree_with_all_pairs():
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**64, 60, dtype=np.uint64)
    hashes, photos = {}, []
    for i in range(1500):
        value = int(bits[i % 60]) ^ (1 << int(rng.integers(64))) ^ (1 << int(rng.integers(64)))
        photos.append(Photo("a", f"{i:04d}", width=64 + i % 7, height=64))
        hashes[f"{i:04d}"] = value
    twins = near_duplicates(photos, hashes, 5)
    stays = [p for p in photos if p.photo not in twins]
    assert len(stays) == 60
    size = {p.photo: p.width for p in photos}
    for name, (other, apart) in twins.items():
        assert (hashes[name] ^ hashes[other]).bit_count() == apart <= 5
        assert other not in twins and size[other] >= size[name]
    apart = [(hashes[a.photo] ^ hashes[b.photo]).bit_count() for i, a in enumerate(stays) for b in stays[:i]]
    assert min(apart) > 5


def test_the_perceptual_hash_survives_scaling_and_recompression():
    buffer = io.BytesIO()
    noise(3, 512).resize((300, 300)).save(buffer, "JPEG", quality=50)
    small = perceptual_hash(read_photo(io.BytesIO(buffer.getvalue())))
    assert (perceptual_hash(np.asarray(noise(3, 512))) ^ small).bit_count() <= 4
    assert (perceptual_hash(np.asarray(noise(4, 512))) ^ small).bit_count() > 16


def test_rejects_of_earlier_stages_are_left_alone(tmp_path):
    (tmp_path / "a").mkdir()
    noise(0).save(tmp_path / "a" / "0.png")
    gone = [p.rejected("download", "http_404", 404, 200) for p in found(tmp_path)]
    assert ingest(gone, tmp_path, source(tmp_path, near_duplicate=4)) == gone
