"""The paper's applications on the toon world: whose photos, which words and what a picture shows of two people."""

import dataclasses

import numpy as np
import pytest
from support.evaluation import CONFIG, PerfectProbe, row_of, trials_of, true_reading

from pm.errors import ConfigError
from pm.evaluate.categories import category_table
from pm.evaluate.metrics.base import Pictures
from pm.evaluate.metrics.mixed_identity import _MixedIdentity
from pm.evaluate.scores import Scored
from pm.evaluate.statistics import Interval
from pm.evaluate.suites.toon_contexts import CATEGORIES, ToonContextsSuite
from pm.evaluate.suites.toon_mixing import ToonMixingSuite, differing
from pm.evaluate.tables import Column
from pm.methods.degraded import Degraded
from pm.methods.mixing import Mixing, stack_of
from pm.methods.reworded import Reworded
from pm.toon.captions import prompted

MIXED = dataclasses.replace(CONFIG, identities=6, references=(4,), prompts=1)


def test_photos_of_both_people_are_stacked_and_weighed_by_their_shares():
    assert stack_of("count", 0.25, 4) == ([0, 1, 2, 4], None)
    assert stack_of("count", 0.0, 4) == ([0, 1, 2, 3], None) and stack_of("count", 1.0, 4) == ([4, 5, 6, 7], None)
    for share, weights in ((0.0, [1, 1, 0, 0]), (0.5, [1, 1, 1, 1]), (0.75, [0.5, 0.5, 1, 1]), (1.0, [0, 0, 1, 1])):
        assert stack_of("weight", share, 4) == ([0, 1, 4, 5], weights)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Mixing("mixing", "a", by="count", share=0.3, photos=4), "share=0.3 of photos=4 is no whole number"),
        (lambda: Mixing("mixing", "a", by="weight", share=0.5, photos=3), "photos=3 must be even"),
        (lambda: Mixing("mixing", "a", by="count", share=0.5, photos=4).check(None, 4), r"protocol.references=\[8\]"),
        (lambda: Degraded("degraded", "a", look="sepia"), "look=sepia of method=degraded is not one of faded"),
        (lambda: Reworded("reworded", "a", words={}), "has no words; give them"),
    ],
)
def test_what_cannot_be_is_refused_by_name(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_each_trial_of_mixing_has_the_photos_of_two_people_who_differ():
    suite = ToonMixingSuite("toon_mixing", MIXED, occlusion=0)
    plain = {t.person: t for t in trials_of(MIXED)}
    for trial in suite.trials():
        first, second = trial.facts.identity, trial.facts.other
        assert first.class_word == second.class_word and len(differing(first, second)) >= 2
        theirs = next(t for t in plain.values() if t.facts.identity == second)
        wanted = [*plain[trial.person].references[:2], *theirs.references[:2]]
        assert all(np.array_equal(a.image, b.image) for a, b in zip(trial.references, wanted, strict=True))
    with pytest.raises(ConfigError, match="an even number in protocol.references"):
        ToonMixingSuite("toon_mixing", dataclasses.replace(MIXED, references=(3,)), occlusion=0).trials()


def test_a_mixed_portrait_is_scored_on_what_tells_the_two_apart():
    (trial,) = ToonMixingSuite("toon_mixing", MIXED, occlusion=0).trials()[:1]
    first, second = trial.facts.identity, trial.facts.other
    half = dataclasses.asdict(first) | {(names := differing(first, second))[0]: getattr(second, names[0])}
    for whose, share in (("first", 1 - 1 / len(names)), ("second", 1 / len(names))):
        metric = _MixedIdentity.__new__(_MixedIdentity)
        metric._probe, metric._whose = PerfectProbe([half]), whose
        (found,) = metric.measure([Pictures(trial, [np.zeros((2, 2, 3), np.uint8)])])
        assert found.values == [pytest.approx(share)]
        assert set(found.per_attribute) == {f"{name} of the {whose}" for name in names}


def test_prompts_of_a_category_say_that_and_nothing_else():
    config = dataclasses.replace(CONFIG, prompts=5)
    for trial in ToonContextsSuite("toon_contexts", config, occlusion=0).trials():
        said, allowed = set(trial.facts.prompted), {*CATEGORIES[trial.category]}
        assert said and said <= allowed | ({"clothes_color"} if "clothes" in allowed else set())
        assert said == set(prompted(trial.facts.scene, trial.facts.omitted))


def test_a_report_has_a_line_for_each_row_and_category():
    by = {"clothes": Interval(0.5, 0.4, 0.6), "background": Interval(1, 1, 1)}
    row = dataclasses.replace(row_of(true_reading), scores={"identity": Scored(by["clothes"], per_category=by)})
    text = str(category_table([row], {"identity": Column("identity")}))
    assert "50.0 [40.0, 60.0]" in text and text.count("| row") == 2
    assert category_table([row_of(true_reading)], {"identity": Column("identity")}) is None
