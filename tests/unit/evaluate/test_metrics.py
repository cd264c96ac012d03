"""Each metric on readings whose score is known, and one that is no part of the project."""

import pytest
from support.evaluation import CONFIG, METRICS, row_of, trials_of, true_reading, worse_reading

from pm.config import from_mapping
from pm.errors import ConfigError
from pm.evaluate.metrics.base import MetricChoice
from pm.toon.attributes import IDENTITY_ATTRIBUTES

IDENTITY, PROMPT, DIVERSITY = METRICS


def test_identity_is_the_share_of_attributes_of_the_person():
    trial = trials_of(CONFIG)[0]
    measured = IDENTITY.measure(trial, [], [true_reading(trial, 0), worse_reading(trial, 1)])
    assert measured.values == [1.0, pytest.approx(1 - 1 / len(IDENTITY_ATTRIBUTES))]
    assert measured.per_attribute["skin"] == [1.0, 0.0] and measured.per_attribute["hair"] == [1.0, 1.0]


def test_the_prompt_asks_for_nothing_that_it_left_out():
    trial = trials_of(CONFIG)[0]
    other = true_reading(trial, 0) | {name: "?" for name in trial.omitted}
    assert PROMPT.measure(trial, [], [other]).values == [1.0]
    asked = next(iter(trial.prompted))
    measured = PROMPT.measure(trial, [], [other | {asked: "?"}])
    assert measured.values == [pytest.approx(1 - 1 / len(trial.prompted))] and measured.per_attribute[asked] == [0.0]


def test_only_what_the_prompt_left_open_counts_as_diversity():
    for trial in trials_of(CONFIG)[:2]:  # one leaves the mouth open, one the wall
        open_, asked = next(iter(trial.omitted)), next(iter(trial.prompted))
        readings = [true_reading(trial, i) for i in range(3)]
        assert DIVERSITY.measure(trial, [], readings).values == [0.0]
        assert DIVERSITY.measure(trial, [], [r | {asked: str(i)} for i, r in enumerate(readings)]).values == [0.0]
        assert DIVERSITY.measure(trial, [], [r | {open_: str(i)} for i, r in enumerate(readings)]).values == [1.0]
        readings[0][open_] = "other"
        assert DIVERSITY.measure(trial, [], readings).values == [pytest.approx(2 / 3)]


def test_diversity_needs_two_images():
    trial = trials_of(CONFIG)[0]
    assert DIVERSITY.measure(trial, [], [true_reading(trial, 0)]).values == []


BRIGHT = """
from dataclasses import dataclass

from pm.evaluate.metrics.base import Measured, MetricChoice


@dataclass(frozen=True)
class Brightness(MetricChoice):
    above: float

    def measure(self, trial, images, readings):
        return Measured([float(image.mean() > self.above) for image in images])
"""


def test_a_metric_of_ones_own_is_one_file_and_gets_the_pictures(tmp_path, monkeypatch):
    (tmp_path / "bright_metrics").mkdir()
    (tmp_path / "bright_metrics" / "above.py").write_text(BRIGHT)
    monkeypatch.syspath_prepend(tmp_path)
    dark, bright = (from_mapping(MetricChoice, {"name": "bright_metrics.above", "above": n}) for n in (10, -1))
    row = row_of(true_reading, metrics=[dark, IDENTITY])
    assert {name: score.mean for name, score in row.scores.items()} == {"bright_metrics.above": 0.0, "identity": 1.0}
    assert row_of(true_reading, metrics=[bright]).scores["bright_metrics.above"].mean == 1.0


def test_unknown_metrics_name_those_there_are():
    with pytest.raises(ConfigError, match="diversity, identity, prompt"):
        from_mapping(MetricChoice, "clip_score")
