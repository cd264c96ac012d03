"""ID photos prepared as an adapter's metadata says, and refused with a reason."""

import dataclasses
import random
import re

import numpy as np
import pytest
from PIL import Image
from support.faces import ASTRONAUTS_FACE, astronaut

from pm.errors import CheckpointError, RequestError
from pm.model.adapter_file import AdapterMeta
from pm.photo.crop import CropConfig
from pm.photo.defaults import shipped_preparation
from pm.photo.faces.dlib import Dlib
from pm.photo.masks.grabcut import GrabCut
from pm.photo.stored import Preparation
from pm.sample.identity import PHOTOGRAPHS, prepare_all, preparer
from pm.sample.wall import has_wall, people_on_wall
from pm.toon.attributes import Framing
from pm.toon.identities import framing, identities, scene
from pm.toon.render import background, paste, render_person, render_photo

META = AdapterMeta("", "stacked", "insert", "img", 4, "face+mask", "0", {}, {})


def _settings(face: str) -> dict:
    how = dataclasses.asdict(shipped_preparation())
    return how if face == how["face"]["name"] else {**how, "face": {"name": face, "min_size": 8}}


def _toon(seed: int) -> tuple[Image.Image, np.ndarray]:
    rng = random.Random(seed)
    photo = render_photo(identities(1, seed, "train")[0], scene(rng), framing(rng), 64)
    return Image.fromarray(photo.image), photo.mask >= 128


def test_published_weights_and_none_take_photos_as_they_are():
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))
    for prepare in (preparer(None), preparer(dataclasses.replace(META, crop_mode="none")), preparer(META, "none")):
        (reference,) = prepare_all([photo], prepare)
        assert reference.mask is None and np.array_equal(np.asarray(reference.image), np.asarray(photo))


def test_a_long_photo_taken_as_it_is_keeps_its_face():
    """600 x 1600 with the face at the top: the centred square showed a chest."""
    pytest.importorskip("cv2")
    person = Image.fromarray(astronaut()).resize((600, 600))
    for size, corner in (((600, 1600), (0, 0)), ((1600, 600), (1000, 0))):
        photo = Image.new("RGB", size, (120, 130, 140))
        photo.paste(person, corner)
        (reference,) = prepare_all([photo], preparer(META, "none"))
        assert "the face is not in the centred square" in reference.notes[0]
        x0, y0, x1, y1 = (side * 600 / 384 + corner[i % 2] for i, side in enumerate(ASTRONAUTS_FACE))
        taken = next(
            (left, top)
            for left in range(0, size[0] - 599)
            for top in range(0, size[1] - 599)
            if np.array_equal(reference.image, photo.crop((left, top, left + 600, top + 600)))
        )
        assert taken[0] <= x0 and taken[1] <= y0 and x1 <= taken[0] + 600 and y1 <= taken[1] + 600
    centred = Image.new("RGB", (600, 1600), (120, 130, 140))
    centred.paste(person, (0, 500))
    (reference,) = prepare_all([centred], preparer(META, "none"))
    assert reference.image.size == (600, 1600) and reference.notes == ()  # as the published code takes it


def test_a_long_photo_without_a_face_is_noted():
    photo = Image.new("RGB", (600, 1600), (120, 130, 140))
    (reference,) = prepare_all([photo], preparer(META, "none"))
    assert reference.image.size == (600, 1600)
    assert "500 of 1600 pixels above and below are cut off; crop it to the face" in reference.notes[0]
    (reference,) = prepare_all([photo.resize((800, 600))], preparer(META, "none"))
    assert reference.notes == ()


def test_people_before_a_plain_wall():
    overlaps, prepare = [], preparer(dataclasses.replace(META, extra={"preprocess": _settings("sidecar")}))
    for seed in range(6):
        image, person = _toon(seed)
        assert has_wall(image)
        (reference,) = prepare_all([image], prepare)
        found = np.asarray(reference.mask) >= 128
        overlaps.append((found & person).sum() / (found | person).sum())
    assert np.mean(overlaps) > 0.85


def test_the_larger_of_two_people_is_taken_and_it_is_said():
    rng, ground = random.Random(0), background("pink", 96)
    for place in (Framing(0.4, -0.3, 0.2, 0.0), Framing(0.3, 0.32, 0.2, 0.0)):
        person = render_person(identities(1, 1, "train")[0], scene(rng), place, 96)
        ground = paste(ground, person)
    picture = Image.fromarray(ground)
    assert len(people_on_wall(picture)) == 2
    (reference,) = prepare_all([picture], preparer(META, "drawing"))
    assert reference.notes == ("photo 1: 2 people, took the largest",)
    assert (np.asarray(reference.mask) >= 128)[:, :48].any() and not (np.asarray(reference.mask) >= 128)[:, 60:].any()


def test_what_drawings_are_refused():
    good, prepare = _toon(0)[0], preparer(META, "drawing")
    with pytest.raises(RequestError, match="photo 2: shows nobody in front of its background; use another"):
        prepare_all([good, Image.fromarray(background("blue", 64))], prepare, strict=True)
    with pytest.raises(RequestError, match="photo 1: is 20 x 20 pixels, needs 24 at least"):
        prepare_all([good.resize((20, 20))], prepare)
    with pytest.raises(CheckpointError, match="metadata about ID photos is damaged"):
        preparer(dataclasses.replace(META, extra={"preprocess": {"face": {}}}))


def _astronaut(side: int = 384) -> Image.Image:
    return Image.fromarray(astronaut(side))


def _side_by_side(*sides: int) -> Image.Image:
    """The same person several times, each in a picture of so many pixels, with room between them."""
    ground = Image.new("RGB", (sum(sides) + 60 * (len(sides) + 1), max(sides)), "gray")
    left = 60
    for side in sides:
        ground.paste(_astronaut(side), (left, ground.height - side))
        left += side + 60
    return ground


OLD = Preparation(Dlib("dlib", 40, 1, 500), GrabCut("grabcut", 0.3, 0.95, 1, 96), CropConfig(0.1, 512, 2.0))


@pytest.mark.parametrize("how", ["default", "old metadata"])
def test_a_photograph_is_cut_around_its_face(how):
    for module in ("cv2", "dlib"):
        pytest.importorskip(module)
    extra = {} if how == "default" else {"preprocess": dataclasses.asdict(OLD)}
    prepare = preparer(dataclasses.replace(META, extra=extra), "photo" if how == "default" else "auto")
    (reference,) = prepare_all([_astronaut(512)], prepare)
    assert reference.image.width == reference.image.height >= 256 and reference.notes == ()
    assert reference.mask.size == reference.image.size
    assert 0.05 < (np.asarray(reference.mask) >= 128).mean() < 0.95


@pytest.mark.parametrize("pick, size", [("largest", 178), ("left", 124), ("middle", 178), ("right", 151)])
def test_of_several_faces_the_one_asked_for_is_taken_and_it_is_said(pick, size):
    pytest.importorskip("cv2")
    several = _side_by_side(700, 1000, 850)
    (reference,) = prepare_all([several], preparer(None, "photo", pick=pick))
    (note,) = reference.notes
    where = "largest" if pick == "largest" else f"one (on|in) the {pick}"
    assert re.match(rf"photo 1: 3 faces, took the {where} \(\d+ pixels\); to take another, crop the photo or", note)
    assert abs(int(re.search(r"\((\d+) pixels", note)[1]) - size) < 0.1 * size
    assert f"pick={pick}" not in note
    with pytest.raises(RequestError, match="pick='second' is not one of largest, left, middle, right"):
        preparer(None, "photo", pick="second")


def test_people_in_the_background_are_not_mentioned():
    pytest.importorskip("cv2")
    small = dataclasses.replace(shipped_preparation().face, min_size=20)
    how = dataclasses.replace(shipped_preparation(), face=small)
    (reference,) = prepare_all([_side_by_side(160, 600)], preparer(None, "photo", how, pick="left"))
    assert reference.notes == () and reference.image.width > 300  # the face in front, whatever is left of it


def test_what_photographs_are_refused():
    pytest.importorskip("cv2")
    prepare = preparer(None, "photo")
    with pytest.raises(RequestError, match=r"photo 1: face too small \(\d+ pixels, needs 80\); use another photo"):
        prepare_all([_astronaut(200)], prepare)
    with pytest.raises(RequestError, match="photo 1: no face found; use another photo, or preprocess=none"):
        prepare_all([Image.new("RGB", (200, 200), "gray")], prepare)


def test_a_turned_picture_in_memory_is_as_good_as_its_file(tmp_path):
    pytest.importorskip("cv2")
    exif = Image.Exif()
    exif[0x0112] = 6
    _astronaut(512).rotate(90, expand=True).save(tmp_path / "a.png", exif=exif)
    prepare = preparer(None, "photo")
    with Image.open(tmp_path / "a.png") as opened:
        references = prepare_all([opened, tmp_path / "a.png", _astronaut(512)], prepare)
    first, *others = [np.asarray(reference.image) for reference in references]
    assert [reference.index for reference in references] == [0, 1, 2]
    assert all(np.array_equal(first, other) for other in others)
    (bare,) = prepare_all([Image.open(tmp_path / "a.png")], preparer(None))
    assert np.array_equal(np.asarray(bare.image), np.asarray(_astronaut(512)))


def test_photographs_for_an_adapter_of_drawings_are_noticed():
    prepare = preparer(dataclasses.replace(META, extra={"preprocess": _settings("sidecar")}))
    notes = [reference.notes for reference in prepare_all([_toon(seed)[0] for seed in range(12)], prepare)]
    assert notes == [()] * 12
    (reference,) = prepare_all([_astronaut()], prepare)
    assert reference.notes[-1] == PHOTOGRAPHS and "SDXL" in PHOTOGRAPHS
