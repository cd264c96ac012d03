import math

import numpy as np
import pytest

from pm.evaluate.statistics import Interval, bootstrap, paired, share_of_gap


def test_bootstrap_interval_covers_the_mean_and_narrows():
    rng = np.random.default_rng(0)
    few, many = (bootstrap(rng.normal(0.5, 0.1, n)) for n in (10, 1000))
    assert few.low < few.mean < few.high
    assert many.high - many.low < (few.high - few.low) / 3
    assert bootstrap([0.5] * 9).low == 0.5


def test_bootstrap_is_that_of_scipy():
    from scipy.stats import bootstrap as theirs

    values = np.random.default_rng(1).beta(2, 5, 60)
    ours = bootstrap(values, resamples=20_000)
    low, high = theirs((values,), np.mean, n_resamples=20_000, method="percentile", rng=2).confidence_interval
    assert (ours.low, ours.high) == (pytest.approx(low, abs=2e-3), pytest.approx(high, abs=2e-3))


def test_share_of_gap():
    assert share_of_gap(0.5, 0.2, 0.8) == pytest.approx(0.5)
    assert math.isnan(share_of_gap(0.5, 0.2, 0.2))


def test_intervals_are_written_in_percent():
    assert str(Interval(0.5, 0.25, 0.755)) == "50.0 [25.0, 75.5]"


def test_paired_differences_are_narrow_where_people_differ_more_than_methods():
    hard = np.random.default_rng(0).uniform(0, 1, 40)
    one = {str(i): value + 0.05 for i, value in enumerate(hard)}
    other = {str(i): value for i, value in enumerate(hard)} | {"somebody else": 9.0}
    difference = paired(one, other)
    assert (difference.low, difference.mean, difference.high) == pytest.approx((0.05, 0.05, 0.05))
    assert bootstrap(list(one.values())).low < bootstrap(list(other.values())[:40]).high  # the rows' own overlap
    assert paired({"a": 1.0}, {"b": 1.0}) is None
