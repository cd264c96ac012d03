"""The Fréchet distance on Gaussians in closed form, and against the formula as others compute it."""

import numpy as np
import pytest
import scipy.linalg

from pm.evaluate.frechet import frechet_distance, frechet_interval


def exact_sample(mean, covariance, rng, n=40):
    """Rows whose mean and covariance are these, exactly."""
    rows = rng.normal(size=(n, len(mean)))
    rows = np.linalg.qr(rows - rows.mean(0))[0] * np.sqrt(n - 1)
    return rows @ scipy.linalg.sqrtm(np.asarray(covariance, float)).real + mean


def by_roots(a, b):
    """As its definition reads."""
    one, two = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = scipy.linalg.sqrtm(one @ two).real
    return np.square(a.mean(0) - b.mean(0)).sum() + np.trace(one + two - 2 * root)


def test_gaussians_in_closed_form():
    rng = np.random.default_rng(0)
    # Diagonal covariances: |μ₁ - μ₂|² + Σ (σ₁ - σ₂)².
    one = exact_sample([0, 0, 0], np.diag([1.0, 4.0, 9.0]), rng)
    two = exact_sample([1, 0, 2], np.diag([4.0, 4.0, 1.0]), rng)
    assert frechet_distance(one, two) == pytest.approx(1 + 4 + (1 - 2) ** 2 + (3 - 1) ** 2)
    # Covariances that do not commute with a third: the general formula.
    three = exact_sample([0, 0, 0], [[2, 1, 0], [1, 3, 1], [0, 1, 2]], rng)
    assert frechet_distance(one, three) == pytest.approx(by_roots(one, three), rel=1e-9)


def test_it_is_zero_for_the_same_set_symmetric_and_grows_with_the_shift():
    rows = np.random.default_rng(1).normal(size=(30, 12))
    assert frechet_distance(rows, rows[::-1]) == pytest.approx(0, abs=1e-9)
    other = np.random.default_rng(2).normal(size=(25, 12)) * 2
    assert frechet_distance(rows, other) == pytest.approx(frechet_distance(other, rows))
    assert frechet_distance(rows, rows + 0.5) == pytest.approx(12 * 0.25)


@pytest.mark.parametrize("n, m, width", [(60, 50, 24), (300, 20, 24), (12, 9, 40)])
def test_agrees_with_the_root_of_a_matrix(n, m, width):
    rng = np.random.default_rng(n)
    a, b = rng.normal(size=(n, width)), rng.normal(size=(m, width)) @ rng.normal(size=(width, width)) + 1
    # Where there are fewer rows than columns, the root of the singular product is only so exact.
    assert frechet_distance(a, b) == pytest.approx(by_roots(a, b), rel=1e-8 if min(n, m) > width else 1e-3)


def test_agrees_with_torchmetrics():
    """torchmetrics 1.9.0, `_compute_fid`, gave this for the same rows."""
    rng = np.random.default_rng(0)
    a = rng.normal(size=(60, 24))
    b = rng.normal(size=(50, 24)) @ rng.normal(size=(24, 24)) + 1
    assert frechet_distance(a, b) == pytest.approx(503.32904917318587, rel=1e-7)


def test_the_interval_holds_the_value_and_narrows_with_people():
    rng = np.random.default_rng(3)

    def people(count):
        names = [f"p{i}" for i in range(count)]
        return {n: rng.normal(size=(4, 6)) for n in names}, {n: rng.normal(size=(4, 6)) + 1 for n in names}

    few, many = frechet_interval(*people(5)), frechet_interval(*people(60))
    assert few.low < few.mean < few.high and many.high - many.low < few.high - few.low
    assert many.low < 6 < many.high  # the truth: six shifts of 1


def test_too_few_rows_have_no_distance():
    one = {"a": np.zeros((1, 3))}
    assert frechet_interval(one, {"a": np.zeros((4, 3))}) is None and frechet_interval({}, {}) is None
    alone = frechet_interval({"a": np.eye(3)}, {"a": np.eye(3)})
    assert alone.low == alone.mean == alone.high == pytest.approx(0, abs=1e-12)
