"""Scores of the toon protocol on readings whose scores are known."""

import dataclasses
import functools
import random

import numpy as np
import pytest

from pm.evaluate import metrics, protocol, tables
from pm.evaluate.config import ProtocolConfig
from pm.toon import captions
from pm.toon.attributes import visible_attributes
from pm.toon.identities import identities, scene, split_of

CONFIG = ProtocolConfig(identities=5, prompts=2, images=2, references=(1, 3), seed=0, size=64)


trials_of = functools.cache(protocol.toon_trials)


class PerfectProbe:
    """Reads what it is told was drawn."""

    def __init__(self, readings):
        self.readings = readings

    def read(self, images):
        assert len(images) == len(self.readings)
        return self.readings


def row(readings_of, **about):
    trials = trials_of(CONFIG)
    readings = [readings_of(t, i) for t in trials for i in range(CONFIG.images)]
    images = [[np.zeros((2, 2, 3), np.uint8)] * CONFIG.images for _ in trials]
    return protocol.score("row", trials, images, PerfectProbe(readings), **about)


def true_reading(trial, i):
    return {"eyes": "open"} | visible_attributes(trial.person, trial.scene)


def test_true_readings_score_one_and_have_no_spread():
    result = row(true_reading)
    assert result.identity.mean == result.prompt.mean == 1.0
    assert result.diversity.mean == 0.0
    assert set(result.per_attribute.values()) == {1.0}


def test_one_wrong_identity_attribute_costs_a_fifth():
    result = row(lambda t, i: true_reading(t, i) | {"skin": "none of them"})
    assert result.identity.mean == pytest.approx(0.8)
    assert result.prompt.mean == 1.0


def test_only_what_the_prompt_left_open_counts_as_diversity():
    wall = row(lambda t, i: true_reading(t, i) | {"background": str(i)})
    assert wall.diversity.mean == pytest.approx(0.5)  # half of the prompts leave the wall open
    assert wall.prompt.mean < 1.0  # the other half asked for one


def test_diversity_needs_two_images():
    assert metrics.diversity([{"mouth": "sad"}], {}, frozenset({"mouth"})) is None


def test_bootstrap_interval_covers_the_mean_and_narrows():
    rng = np.random.default_rng(0)
    few, many = (metrics.bootstrap(rng.normal(0.5, 0.1, n)) for n in (10, 1000))
    assert few.low < few.mean < few.high
    assert many.high - many.low < (few.high - few.low) / 3
    assert metrics.bootstrap([0.5] * 9).low == 0.5


def test_trials_are_fixed_and_only_show_held_out_people():
    one, two = trials_of(CONFIG), protocol.toon_trials(CONFIG)
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


def test_table_2a_has_the_papers_rows_in_order_and_one_best_per_column():
    rows = [row(true_reading, compose=c, merge="insert", references=4) for c in ("stacked", "average")]
    worse = row(lambda t, i: true_reading(t, i) | {"skin": "?"}, compose="linear", merge="insert", references=4)
    text = tables.composing_table([*rows, worse])
    names = [line.split("|")[1].strip() for line in text.splitlines()[2:]]
    assert names == ["Average", "Linear", "Stacked"]
    assert "**" not in text.splitlines()[3].split("|")[3]
    assert tables.composing_table(rows[:1]) is None


def test_share_of_gap():
    assert metrics.share_of_gap(0.5, 0.2, 0.8) == pytest.approx(0.5)


def test_people_of_the_protocol_differ_by_seed():
    assert identities(5, 0, "eval") != identities(5, 1, "eval")


def test_seeds_of_a_sweep_share_a_row():
    worse = lambda t, i: true_reading(t, i) | {"skin": "?"}  # noqa: E731
    rows = [
        dataclasses.replace(
            row(reading, compose=c, merge="insert", references=4), name=f"compose-{c}_seed-{seed}, 4 references"
        )
        for c in ("average", "stacked")
        for seed, reading in enumerate((true_reading, worse))
    ]
    one, other = rows[0].identity.mean, rows[1].identity.mean
    expected = f"{50 * (one + other):.1f} ± {100 * abs(one - other) / 2**0.5:.1f}"
    over_seeds = tables.seeds_table(rows).splitlines()
    assert over_seeds[2].startswith("| compose-average, 4 references | 2 ") and expected in over_seeds[2]
    paper = tables.composing_table(rows).splitlines()
    assert len(paper) == 4 and "| Average " in paper[2] and "| Stacked " in paper[3]
    assert expected in paper[2]
    assert tables.seeds_table(rows[::2]) is None
