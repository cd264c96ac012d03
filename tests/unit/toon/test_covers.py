"""What hides a part of a person: what is said to be hidden cannot be seen, and no caption says it."""

import dataclasses
import json
import random

import numpy as np
import pytest

from pm.errors import ConfigError
from pm.toon import captions
from pm.toon.attributes import FACIAL_HAIR, IDENTITY_ATTRIBUTES, MEN_HAIR, Framing
from pm.toon.covers import COLORS, HEADWEAR, NOTHING, Covers, covers, seen_attributes, tight
from pm.toon.identities import framing, identities, scene
from pm.toon.render import MIDDLE, render_photo
from pm.toon.world import write_photos

MAN = next(p for p in identities(20, 0, "train") if p.class_word == "man")
VIEW = dataclasses.replace(scene(random.Random(0)), mouth="serious", glasses="none", eyes="open", clothes="shirt")


def difference(over, frame=MIDDLE, **changed):
    """Largest difference of two photos [0, 255] when the person differs in `changed`."""
    one, other = (render_photo(p, VIEW, frame, 64, over).image for p in (MAN, dataclasses.replace(MAN, **changed)))
    return int(np.abs(one.astype(int) - other).max())


@pytest.mark.parametrize("headwear", HEADWEAR)
def test_headwear_hides_the_hair(headwear):
    over, bare = Covers(headwear=headwear), dataclasses.replace(MAN, facial_hair="no beard")
    assert all(difference(over, hair=hair) == 0 for hair in MEN_HAIR)
    seen = seen_attributes(bare, VIEW, over, MIDDLE)
    assert not {"hair", "hair_color", "class_word"} & set(seen) and {"skin", "eyebrows", "facial_hair"} <= set(seen)
    assert "hair_color" in seen_attributes(dataclasses.replace(MAN, facial_hair="full beard"), VIEW, over, MIDDLE)


def test_goggles_hide_brows_and_a_scarf_hides_beards():
    brows, beards = IDENTITY_ATTRIBUTES["eyebrows"], list(FACIAL_HAIR)
    assert all(difference(Covers(goggles=True), eyebrows=brow) == 0 for brow in brows)
    assert all(difference(Covers(scarf_color="red"), facial_hair=beard) == 0 for beard in beards)
    assert any(difference(NOTHING, eyebrows=brow) > 50 for brow in brows)  # else the lines above prove nothing
    assert any(difference(NOTHING, facial_hair=beard) > 50 for beard in beards)
    seen = seen_attributes(MAN, VIEW, Covers(goggles=True, scarf_color="red"), MIDDLE)
    assert not {"eyebrows", "eyes", "glasses", "facial_hair", "mouth"} & set(seen) and "hair" in seen


def test_what_lies_outside_a_tight_crop_is_hidden():
    low = Framing(scale=2.0, x=0.0, y=-0.45, rotation=0.0)  # the drawing moves up: the head leaves the photo
    assert not {"hair", "eyebrows"} & set(seen_attributes(MAN, VIEW, NOTHING, low))
    assert difference(NOTHING, low, eyebrows="thick") == difference(NOTHING, low, eyebrows="thin") == 0
    usual = [framing(random.Random(seed)) for seed in range(30)]
    assert all(set(IDENTITY_ATTRIBUTES) <= set(seen_attributes(MAN, VIEW, NOTHING, frame)) for frame in usual)


def test_the_share_of_covers_is_the_one_asked_for():
    rng = random.Random(0)
    drawn = [covers(rng, 0.3) for _ in range(2000)]
    for shown in (bool, lambda c: c.headwear, lambda c: c.goggles, lambda c: c.scarf_color):
        share = sum(bool(shown(c)) for c in drawn) / len(drawn)
        assert abs(share - (0.657 if shown is bool else 0.3)) < 0.04  # 1 - 0.7³
    assert not any(covers(rng, 0.0) for _ in range(50)) and tight(rng, 0.0, MIDDLE) == MIDDLE
    assert {c.scarf_color for c in drawn} - {None} == set(COLORS)  # hair's colours are among them


def test_captions_say_covers_and_nothing_that_they_hide():
    over = Covers("turban", "green", goggles=True, scarf_color="red")
    view = dataclasses.replace(VIEW, mouth="tongue", eyes="closed", glasses="glasses")
    for seed in range(20):
        text = captions.caption(MAN, view, random.Random(seed), over=over)
        assert all(said in text for said in ("green turban", "goggles", "red scarf over the mouth"))
        assert not [word for word in ("tongue", "closed", "glasses", "hair", *MEN_HAIR) if word in text], text
    assert captions.traits(MAN, ["skin", "hair_color"]) == f"{MAN.skin} skin and {MAN.hair_color} hair"
    assert captions.traits(MAN, []) == "" and captions.identity_caption(MAN, VIEW, random.Random(0), seen=[])


def test_what_a_caption_leaves_out_is_not_prompted():
    everything = frozenset(captions.OMITTABLE)
    for seed in range(20):
        rng = random.Random(seed)
        text = captions.caption(MAN, VIEW, rng, everything)
        assert text.removeprefix("a photo of ").removeprefix("a portrait of ") == "a man"
    assert captions.prompted(VIEW, everything) == {}
    shares = [len(captions.omissions(random.Random(seed), 0.35)) / len(everything) for seed in range(500)]
    assert abs(np.mean(shares) - 0.35) < 0.04


def test_a_world_without_occlusion_is_the_one_of_before(tmp_path):
    drawn = {"identities": 2, "photos_per_identity": 3, "seed": 0, "split": "train", "progress": False}
    write_photos(tmp_path / "plain", **drawn)
    write_photos(tmp_path / "covered", **drawn, occlusion=0.5, omit=0.5)
    differ = 0
    for path in sorted((tmp_path / "plain").glob("*/*.json")):
        rng = random.Random(0)
        plain = json.loads(path.read_text())
        other = json.loads((tmp_path / "covered" / path.relative_to(tmp_path / "plain")).read_text())
        assert set(other["attributes"].items()) <= set(plain["attributes"].items()), rng  # hidden, never changed
        differ += other["attributes"] != plain["attributes"]
    assert differ
    with pytest.raises(ConfigError, match=r"occlusion=1.5 is no share"):
        write_photos(tmp_path / "x", **drawn, occlusion=1.5)
