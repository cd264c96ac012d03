import random
from dataclasses import replace

import numpy as np
import pytest
from support.evaluation import CONFIG, trials_of

from pm.errors import ConfigError
from pm.evaluate.suites.toon import ToonSuite
from pm.photo.pixels import decode_png
from pm.toon import captions
from pm.toon.identities import identities, scene, split_of


def test_trials_are_fixed_and_only_show_held_out_people():
    one, two = trials_of(CONFIG), ToonSuite("toon", CONFIG, occlusion=0).trials()
    assert [t.prompt("a man img") for t in one] == [t.prompt("a man img") for t in two]
    assert [t.seeds for t in one] == [t.seeds for t in two]
    assert all(split_of(t.facts.identity) == "eval" for t in one)
    assert all(len(t.references) == 3 for t in one)


def test_prompt_says_what_is_scored_and_nothing_else():
    rng = random.Random(0)
    for _ in range(50):
        view, omitted = scene(rng), frozenset({"mouth"})
        text = captions.describe("a man img", view, None, omitted)
        said = captions.prompted(view, omitted)
        assert "mouth" not in said
        assert all(said[k] in text for k in ("clothes", "clothes_color", "background"))


def test_the_trigger_word_follows_the_class_word():
    trial = trials_of(CONFIG)[0]
    word = trial.class_word
    assert f"a {word} img" in trial.prompt(f"{trial.subject} img") and f"a {word} " in trial.prompt(trial.subject)
    assert "img" not in trial.prompt(trial.subject)


def test_people_of_the_protocol_differ_by_seed():
    assert identities(5, 0, "eval") != identities(5, 1, "eval")


def drawings(trials):
    (given,) = ToonSuite("toon", replace(CONFIG, size=32), occlusion=0).given(trials)
    return [
        [np.asarray(decode_png(given.png(t, n), "RGB")) for n in range(len(trial.seeds))]
        for t, trial in enumerate(trials)
    ]


def test_drawings_are_of_the_asked_size_number_and_always_the_same():
    trials = trials_of(CONFIG)[:2]
    one, two = (drawings(trials) for _ in range(2))
    assert [[image.shape for image in row] for row in one] == [[(32, 32, 3)] * CONFIG.images] * 2
    assert all(np.array_equal(a, b) for x, y in zip(one, two, strict=True) for a, b in zip(x, y, strict=True))


def test_held_out_photos_are_of_the_person_and_none_of_the_references():
    for trial in trials_of(CONFIG):
        assert len(trial.held_out) == 2
        shown = {photo.image.tobytes() for photo in trial.references}
        assert not shown & {photo.image.tobytes() for photo in trial.held_out}
        assert all(photo.mask.dtype == bool and photo.mask.any() for photo in (*trial.references, *trial.held_out))


def test_people_have_names_that_differ_and_files_can_have():
    people = list(dict.fromkeys(trial.person for trial in trials_of(CONFIG)))
    assert len(people) == CONFIG.identities and all(name.isidentifier() or name[0].isdigit() for name in people)


def test_occlusion_hides_parts_of_references_and_changes_nothing_else():
    plain = ToonSuite("toon", CONFIG, occlusion=0).trials()
    covered = ToonSuite("toon", CONFIG, occlusion=0.5).trials()
    for one, other in zip(plain, covered, strict=True):
        assert (one.template, one.seeds, one.facts) == (other.template, other.seeds, other.facts)
        assert all(np.array_equal(a.image, b.image) for a, b in zip(one.held_out, other.held_out, strict=True))
    pairs = [
        (a, b)
        for one, other in zip(plain, covered, strict=True)
        for a, b in zip(one.references, other.references, strict=True)
    ]
    assert np.mean([not np.array_equal(a.image, b.image) for a, b in pairs]) > 0.5  # 1 - 0.5⁴ expected
    assert ToonSuite("toon", CONFIG, occlusion=0.5).about() != ToonSuite("toon", CONFIG, occlusion=0).about()


def test_references_may_look_like_old_photos_or_paintings():
    plain, *others = (
        ToonSuite("toon", CONFIG, occlusion=0, look=look).trials() for look in (None, "faded", "painting")
    )
    for looked in others:
        assert [t.template for t in looked] == [t.template for t in plain]
        pairs = [(a.references[0], b.references[0]) for a, b in zip(plain, looked, strict=True)]
        assert all(5 < np.abs(a.image.astype(int) - b.image).mean() < 120 for a, b in pairs)
        assert all(np.array_equal(a.mask, b.mask) for a, b in pairs)
    again = ToonSuite("toon", CONFIG, occlusion=0, look="faded").trials()
    assert np.array_equal(again[0].references[0].image, others[0][0].references[0].image)
    with pytest.raises(ConfigError, match="suite.look=sepia is not one of faded, painting"):
        ToonSuite("toon", CONFIG, occlusion=0, look="sepia").check(None)
