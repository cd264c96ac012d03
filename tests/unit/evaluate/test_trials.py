import random
from dataclasses import replace

import numpy as np
from support.evaluation import CONFIG, trials_of

from pm.evaluate.suites.toon import ToonSuite
from pm.photo.pixels import decode_png
from pm.toon import captions
from pm.toon.identities import identities, scene, split_of


def test_trials_are_fixed_and_only_show_held_out_people():
    one, two = trials_of(CONFIG), ToonSuite("toon", CONFIG).trials()
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
    (given,) = ToonSuite("toon", replace(CONFIG, size=32)).given(trials)
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
