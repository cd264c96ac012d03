import random

import numpy as np
from support.evaluation import CONFIG, trials_of

from pm.evaluate.trials import drawings, toon_trials
from pm.toon import captions
from pm.toon.identities import identities, scene, split_of


def test_trials_are_fixed_and_only_show_held_out_people():
    one, two = trials_of(CONFIG), toon_trials(CONFIG)
    assert [t.prompt("img") for t in one] == [t.prompt("img") for t in two]
    assert [t.seeds for t in one] == [t.seeds for t in two]
    assert all(split_of(t.person) == "eval" for t in one)
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
    word = trial.person.class_word
    assert f"a {word} img" in trial.prompt("img") and f"a {word} " in trial.prompt(None)
    assert "img" not in trial.prompt(None)


def test_people_of_the_protocol_differ_by_seed():
    assert identities(5, 0, "eval") != identities(5, 1, "eval")


def test_drawings_are_of_the_asked_size_number_and_always_the_same():
    trials = trials_of(CONFIG)[:2]
    one, two = (drawings(trials, 32) for _ in range(2))
    assert [[image.shape for image in row] for row in one] == [[(32, 32, 3)] * CONFIG.images] * 2
    assert all(np.array_equal(a, b) for x, y in zip(one, two, strict=True) for a, b in zip(x, y, strict=True))
