"""Rows against each other: the bootstrap of the people's differences, whichever row stands first."""

import dataclasses

import numpy as np
import pytest
from support.evaluation import row_of, true_reading

from pm.evaluate.pairs import against, all_pairs
from pm.evaluate.scores import Scored
from pm.evaluate.statistics import Interval, bootstrap, paired

PEOPLE = [f"{i:03d}_man" for i in range(9)]


def row(name, people=PEOPLE, seed=0):
    values = dict(zip(people, np.random.default_rng(seed).uniform(size=len(people)).tolist(), strict=True))
    scores = {"identity": Scored(Interval(0, 0, 0), None, values), "prompt": Scored(None)}
    return dataclasses.replace(row_of(true_reading, name=name), scores=scores)


def close(one, other):
    return dataclasses.astuple(one) == pytest.approx(dataclasses.astuple(other), abs=1e-12)


def test_every_pair_is_there_once_and_is_the_bootstrap_of_the_differences():
    rows = [row(name, seed=seed) for seed, name in enumerate("abcd")]
    pairs = all_pairs(rows)
    assert [pair.label for pair in pairs] == ["a − b", "a − c", "a − d", "b − c", "b − d", "c − d"]
    by_name = {r.name: r.scores["identity"].per_person for r in rows}
    for pair in pairs:
        one, other = by_name[pair.first], by_name[pair.second]
        assert list(pair.differences) == ["identity"]  # nobody has values in the other column
        assert close(pair.differences["identity"], bootstrap([one[p] - other[p] for p in PEOPLE]))


def test_any_row_may_be_the_reference():
    rows = [row(name, seed=seed) for seed, name in enumerate("abc")]
    found = against(all_pairs(rows), "b")
    assert [pair.label for pair in found] == ["b − a", "b − c"]
    values = {r.name: r.scores["identity"].per_person for r in rows}
    for pair in found:
        assert close(pair.differences["identity"], paired(values["b"], values[pair.second]))


def test_people_that_only_one_row_has_do_not_count():
    one, other, stranger = row("a"), row("b", PEOPLE[::-1][:7], seed=1), row("c", ["nobody"])
    pairs = all_pairs([one, other, stranger])
    assert [pair.label for pair in pairs] == ["a − b"]
    wanted = paired(one.scores["identity"].per_person, other.scores["identity"].per_person)
    assert pairs[0].differences["identity"] == wanted
    assert all_pairs([]) == [] and all_pairs([one]) == []
