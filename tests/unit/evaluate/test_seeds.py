"""Trainings against each other over seeds and people."""

import dataclasses

import numpy as np
import pytest
from support.evaluation import row_of, true_reading

from pm.evaluate.scores import Scored
from pm.evaluate.seeds import crossed, seeds_apart
from pm.evaluate.statistics import Interval

PEOPLE = [f"{i:03d}_man" for i in range(20)]
ROW = row_of(true_reading)


def row(name, references, gain, seed):
    rng = np.random.default_rng(seed)  # the same people are easy with every training of a seed
    values = dict(zip(PEOPLE, (rng.uniform(size=20) + gain).tolist(), strict=True))
    return dataclasses.replace(
        ROW, name=f"{name}_seed-{seed}, {references} references", references=references,
        scores={"identity": Scored(Interval(0, 0, 0), None, values), "prompt": Scored(None)},
    )  # fmt: skip


def test_trainings_are_compared_where_they_differ_in_one_thing():
    gains = {("average", 1): 0.0, ("average", 2): 0.1, ("stacked", 1): 0.3, ("stacked", 2): 0.5, ("stacked", 4): 0.6}
    rows = [row(f"compose-{name}", n, gain, seed) for seed in range(3) for (name, n), gain in gains.items()]
    found = {pair.label: pair.differences["identity"] for pair in seeds_apart(rows)}
    assert {label: round(d.mean, 6) for label, d in found.items()} == {
        "compose-average, 2 references − compose-average, 1 reference": 0.1,
        "compose-average, 1 reference − compose-stacked, 1 reference": -0.3,
        "compose-average, 2 references − compose-stacked, 2 references": -0.4,
        "compose-stacked, 2 references − compose-stacked, 1 reference": 0.2,
    }
    assert all(d.high - d.low < 1e-9 for d in found.values())  # every person and seed gains the same
    assert seeds_apart(rows[:5]) == []  # one seed tells nothing of others


def test_the_interval_is_over_seeds_and_people():
    rng = np.random.default_rng(0)
    people, seeds = rng.normal(size=(1, 200)), rng.normal(size=(5, 1))
    for values, deviation in ((people + np.zeros((5, 1)), 200**-0.5), (seeds + np.zeros((1, 200)), 5**-0.5)):
        found = crossed(values)
        assert found.low < values.mean() < found.high
        assert found.high - found.low == pytest.approx(2 * 1.96 * deviation, rel=0.5)
