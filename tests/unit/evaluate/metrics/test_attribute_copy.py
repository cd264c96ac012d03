"""What a drawing repeats of its references, against chance: on average nothing for what does not depend on them."""

import dataclasses
import itertools
import random

import numpy as np
import pytest
from support.evaluation import CONFIG, PerfectProbe, trials_of

from pm.evaluate.metrics.attribute_copy import _AttributeCopy, copied_by, repeated
from pm.evaluate.metrics.base import Pictures
from pm.toon.attributes import PHOTO_ATTRIBUTES
from pm.toon.identities import framing, identities, scene
from pm.toon.placing import apart, framing_of, upright
from pm.toon.render import render_photo


@pytest.mark.parametrize("prompted", [{}, {"mouth": "sad"}], ids=["left open", "said otherwise"])
@pytest.mark.parametrize("drawn", ["sad", "smiling"])
def test_a_picture_that_does_not_depend_on_the_references_copies_as_often_as_chance(prompted, drawn):
    mouths = PHOTO_ATTRIBUTES["mouth"]
    found = [
        copied_by({"mouth": drawn}, prompted, [{"mouth": m} for m in shown])
        for shown in itertools.product(mouths, repeat=2)
    ]
    pairs = [each["mouth"] for each in found if each]
    assert len(pairs) == (4 if prompted else 5) ** 2  # not where a reference shows what was asked for
    assert np.mean([hit for hit, _ in pairs]) == pytest.approx(np.mean([chance for _, chance in pairs]))


def test_what_no_reference_shows_and_what_was_asked_for_as_it_is_shown_do_not_count():
    shown = [{"clothes": "hoodie"}, {"clothes": "shirt"}]
    reading = {"clothes": "hoodie", "mouth": "sad"}
    assert copied_by(reading, {"clothes": "hoodie"}, shown) == {}
    assert copied_by(reading, {"clothes": "blazer"}, shown) == {"clothes": (1.0, pytest.approx(repeated(1 / 4, 2)))}


def test_framings_are_read_from_the_pixels():
    rng, errors = random.Random(0), []
    for person in identities(12, 5, "train"):
        frame = framing(rng)
        found = framing_of(render_photo(person, scene(rng), frame, 64).image, person)
        errors.append(apart(found, upright(frame)))
    assert np.median(errors) < 0.025 and max(errors) < 0.06


def whole(trial, reading):
    """With the person, and something said of everything."""
    rest = {"mouth": "sad", "background": "pink"}
    return rest | dict(reading) | dataclasses.asdict(trial.facts.identity)


def copying(images_of, readings_of):
    trials = trials_of(CONFIG)
    metric = _AttributeCopy.__new__(_AttributeCopy)
    metric._probe = PerfectProbe([readings_of(t) for t in trials for _ in range(2)])
    metric._tolerance = 0.04
    return metric.measure([Pictures(t, [images_of(t)] * 2) for t in trials])


def test_a_copy_of_a_reference_is_far_above_chance_and_a_batch_is_its_trials():
    copy = copying(lambda t: t.references[0].image, lambda t: whole(t, t.facts.references[0].attributes))
    values = [v for each in copy for v in each.values]
    assert len(values) == 2 * len(copy) and np.mean(values) > 0.3
    assert all(np.mean(m.per_attribute["framing copied"]) == 1 for m in copy)
    other = copying(lambda t: t.held_out[0].image, lambda t: whole(t, t.facts.prompted))
    assert np.mean([v for each in other for v in each.values]) < 0.2
