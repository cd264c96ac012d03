"""Each metric on readings whose score is known, and one that is no part of the project."""

import numpy as np
import pytest
from support.evaluation import CONFIG, metric_of, row_of, trials_of, true_reading, worse_reading

from pm.config import from_mapping
from pm.errors import ConfigError
from pm.evaluate.columns import check_columns
from pm.evaluate.config import EvaluateConfig
from pm.evaluate.metrics.base import Measured, MetricChoice, Pictures
from pm.evaluate.metrics.identity import Identity
from pm.evaluate.scores import load_metrics, scored
from pm.toon.attributes import IDENTITY_ATTRIBUTES

IDENTITY, PROMPT, DIVERSITY = map(metric_of, ("identity", "prompt", "diversity"))


def test_identity_is_the_share_of_attributes_of_the_person():
    trial = trials_of(CONFIG)[0]
    measured = IDENTITY.judge(trial, [true_reading(trial, 0), worse_reading(trial, 1)])
    assert measured.values == [1.0, pytest.approx(1 - 1 / len(IDENTITY_ATTRIBUTES))]
    assert measured.per_attribute["skin"] == [1.0, 0.0] and measured.per_attribute["hair"] == [1.0, 1.0]


def test_the_prompt_asks_for_nothing_that_it_left_out():
    trial = trials_of(CONFIG)[0]
    other = true_reading(trial, 0) | {name: "?" for name in trial.facts.omitted}
    assert PROMPT.judge(trial, [other]).values == [1.0]
    asked = next(iter(trial.facts.prompted))
    measured = PROMPT.judge(trial, [other | {asked: "?"}])
    assert measured.values == [pytest.approx(1 - 1 / len(trial.facts.prompted))] and measured.per_attribute[asked] == [
        0.0
    ]


def test_only_what_the_prompt_left_open_counts_as_diversity():
    for trial in trials_of(CONFIG)[:2]:  # one leaves the mouth open, one the wall
        open_, asked = next(iter(trial.facts.omitted)), next(iter(trial.facts.prompted))
        readings = [true_reading(trial, i) for i in range(3)]
        assert DIVERSITY.judge(trial, readings).values == [0.0]
        assert DIVERSITY.judge(trial, [r | {asked: str(i)} for i, r in enumerate(readings)]).values == [0.0]
        assert DIVERSITY.judge(trial, [r | {open_: str(i)} for i, r in enumerate(readings)]).values == [1.0]
        readings[0][open_] = "other"
        assert DIVERSITY.judge(trial, readings).values == [pytest.approx(2 / 3)]


def test_diversity_needs_two_images():
    trial = trials_of(CONFIG)[0]
    assert DIVERSITY.judge(trial, [true_reading(trial, 0)]).values == []


BRIGHT = """
from dataclasses import dataclass

from pm.evaluate.metrics.base import Measured, Metric, MetricChoice


@dataclass(frozen=True)
class Brightness(MetricChoice):
    above: float

    def load(self, device):
        return Bright(self.above)


class Bright(Metric):
    def __init__(self, above):
        self.above = above

    def measure(self, batch):
        return [Measured([float(image.mean() > self.above) for image in pictures.images]) for pictures in batch]
"""


def test_a_metric_of_ones_own_is_one_file_and_gets_the_pictures(tmp_path, monkeypatch):
    (tmp_path / "bright_metrics").mkdir()
    (tmp_path / "bright_metrics" / "above.py").write_text(BRIGHT)
    monkeypatch.syspath_prepend(tmp_path)
    dark, bright = (from_mapping(MetricChoice, {"name": "bright_metrics.above", "above": n}) for n in (10, -1))
    row = row_of(true_reading, metrics=[dark, "identity"])
    assert {n: row.interval(n).mean for n in row.scores} == {"bright_metrics.above": 0.0, "identity": 1.0}
    assert row_of(true_reading, metrics=[bright]).interval("bright_metrics.above").mean == 1.0


def test_a_model_that_cannot_be_had_leaves_its_metric_out_and_says_why(tmp_path, capsys):
    found = load_metrics([Identity("identity", str(tmp_path / "none.safetensors"))], "cpu")
    assert "identity is left out" in capsys.readouterr().out
    trials = trials_of(CONFIG)
    perfect = metric_of("prompt", [true_reading(t, i) for t in trials for i in range(CONFIG.images)])
    images = [np.zeros((2, 2, 3), np.uint8)] * CONFIG.images
    measured = {"prompt": perfect.measure([Pictures(trial, images) for trial in trials])}
    scores, _ = scored(trials, measured, found | {"prompt": perfect})
    assert scores["identity"].interval is None and "none.safetensors" in scores["identity"].why
    assert scores["prompt"].interval.mean == 1.0


def test_a_metric_that_applies_to_no_picture_is_missing_and_not_zero():
    trials = trials_of(CONFIG)
    nothing = {"diversity": [Measured([]) for _ in trials]}
    scores, _ = scored(trials, nothing, {"diversity": metric_of("diversity")})
    assert scores["diversity"].interval is None and "no face" in scores["diversity"].why


def test_a_metric_is_one_column():
    from serving.compose import composed

    with pytest.raises(ConfigError, match=r"metrics names prompt twice; .*\{name: prompt, column: prompt_2, ...\}"):
        from_mapping(EvaluateConfig, composed("evaluate", ["metrics=[prompt,identity,prompt]"]))


def columns(*metrics):
    return [MetricChoice(name, column=column) for name, column in metrics]


def test_a_metric_has_several_columns_with_names_of_their_own():
    from serving.compose import composed

    asked = "metrics=[toon_clip_i, {name: toon_clip_i, column: CLIP-I held out, against: held_out}]"
    found = from_mapping(EvaluateConfig, composed("evaluate", [asked])).metrics
    assert [(m.name, m.key, m.head, m.against) for m in found] == [
        ("toon_clip_i", "toon_clip_i", "toon CLIP-I", "references"),
        ("toon_clip_i", "CLIP-I held out", "CLIP-I held out", "held_out"),
    ]


@pytest.mark.parametrize(
    "metrics, why",
    [
        ([("prompt", ""), ("prompt", "prompt")], "metrics names prompt twice"),
        ([("clip_i", "a"), ("dino", "A")], "metrics names A twice; .*name: dino, column: dino_2"),
        ([("clip_i", "../x")], "column='../x' of metric clip_i is no name of a column"),
        ([("clip_i", " ")], "column=' ' of metric clip_i is no name"),
        ([("clip_i", "x" * 61)], "is no name of a column; use up to 60"),
        ([("clip_i", "identity")], "column=identity of metric clip_i means something else in a report"),
        ([("clip_i", "peak_gib")], "column=peak_gib of metric clip_i means something else .*clip_i_2"),
        ([("clip_i", "mine.metric"), ("mine.metric", "")], "column=mine.metric of metric clip_i means something else"),
    ],
)
def test_names_of_columns_that_mean_something_else_are_refused(metrics, why):
    with pytest.raises(ConfigError, match=why):
        check_columns(columns(*metrics))


def test_unknown_metrics_name_those_there_are():
    with pytest.raises(ConfigError, match="diversity, .*identity, .*prompt"):
        from_mapping(MetricChoice, "clip_score")
