"""The toon world: deterministic, split cleanly, captions that tell only what they may."""

import json
import random

import numpy as np
import pytest

from pm.errors import ConfigError, DataError
from pm.toon import captions
from pm.toon.attributes import IDENTITY_ATTRIBUTES, Framing
from pm.toon.identities import all_identities, framing, identities, scene, split_of
from pm.toon.render import MIDDLE, render_photo
from pm.toon.world import DEFECTS, write_photos


def test_same_seed_same_people_other_seed_other_people():
    assert identities(20, 1, "train") == identities(20, 1, "train")
    assert identities(20, 1, "train") != identities(20, 2, "train")


def test_splits_share_no_attribute_combination():
    people = list(all_identities())
    evaluation = {p for p in people if split_of(p) == "eval"}
    assert not evaluation & set(identities(len(people) - len(evaluation), 0, "train"))
    assert 0.08 < len(evaluation) / len(people) < 0.12
    for name, values in IDENTITY_ATTRIBUTES.items():
        assert {getattr(p, name) for p in evaluation} == set(values), name


def test_too_many_people_is_an_error():
    with pytest.raises(DataError, match="has .* people, asked for"):
        identities(10**6, 0, "eval")


def test_photo_is_deterministic_and_framing_moves_it():
    rng = random.Random(0)
    person, view = identities(1, 0, "train")[0], scene(rng)
    one, two = render_photo(person, view), render_photo(person, view)
    assert np.array_equal(one.image, two.image)
    moved = render_photo(person, view, Framing(1.2, 0.05, 0.0, 5.0))
    assert not np.array_equal(one.image, moved.image)


def test_face_box_lies_on_the_person():
    rng = random.Random(1)
    for person in identities(8, 0, "train"):
        photo = render_photo(person, scene(rng), framing(rng))
        x0, y0, x1, y1 = (int(v) for v in photo.face_box)
        assert photo.mask[y0:y1, x0:x1].mean() > 0.8 * 255
        assert 0.1 < (x1 - x0) * (y1 - y0) / 64**2 < 0.5
        assert all(x0 <= x <= x1 and y0 <= y <= y1 for x, y in photo.landmarks)


def test_background_lies_outside_the_mask():
    view = scene(random.Random(2))
    photo = render_photo(identities(1, 0, "train")[0], view, MIDDLE)
    outside = photo.image[photo.mask == 0]
    assert len(np.unique(outside, axis=0)) == 1


def test_captions_never_tell_the_identity_and_always_the_class_word():
    rng = random.Random(3)
    words = {w for v in ("hair", "hair_color", "skin", "facial_hair", "eyebrows") for w in IDENTITY_ATTRIBUTES[v]}
    telling = {w for w in words if " " in w} | {"skin", "hair", "beard", "moustache", "eyebrows", "quiff", "bob", "bun"}
    for person in identities(60, 0, "train"):
        text = captions.caption(person, scene(rng), rng)
        assert person.class_word in text.replace(",", "").split()
        assert not [w for w in telling if w in text], text


def test_two_identities_in_one_scene_have_one_caption():
    view = scene(random.Random(4))
    men = [p for p in identities(20, 0, "train") if p.class_word == "man"]
    assert len({captions.caption(p, view) for p in men}) == 1


def test_written_world_says_which_photo_has_which_defect(tmp_path):
    shares = dict.fromkeys(DEFECTS, 0.15)
    counts = write_photos(
        tmp_path / "w", identities=6, photos_per_identity=8, seed=0, split="train", defects=shares, progress=False
    )
    truth = json.loads((tmp_path / "w" / "truth.json").read_text())
    assert sum(counts.values()) == 48 and counts["clean"] == 48 - len(truth)
    for photo, defect in truth.items():
        sidecar = json.loads((tmp_path / "w" / photo).with_suffix(".json").read_text())
        expected = {"no_person": 0, "two_people": 2}.get(defect, 1)
        assert len(sidecar["faces"]) == expected


def test_world_is_never_mixed_with_another(tmp_path):
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "mine.txt").write_text("keep")
    with pytest.raises(DataError, match="not empty"):
        write_photos(tmp_path / "w", identities=2, photos_per_identity=1, seed=0, split="train", progress=False)
    with pytest.raises(ConfigError, match="unknown toon defect"):
        write_photos(tmp_path / "x", identities=2, photos_per_identity=1, seed=0, split="train", defects={"blur": 0.1})
    assert not (tmp_path / "x").exists()
