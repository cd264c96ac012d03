import pytest
from support.evaluation import CONFIG, row_of, true_reading, worse_reading

from pm.config import from_mapping
from pm.errors import ConfigError
from pm.evaluate.suites.base import ProtocolConfig


def test_true_readings_score_one_and_have_no_spread():
    row = row_of(true_reading)
    assert {name: row.interval(name).mean for name in row.scores} == {"identity": 1, "prompt": 1, "diversity": 0}
    assert set(row.per_attribute.values()) == {1.0}


def test_one_wrong_identity_attribute_costs_a_fifth():
    row = row_of(worse_reading)
    assert row.interval("identity").mean == pytest.approx(0.8) and row.per_attribute["skin"] == 0
    assert row.interval("prompt").mean == 1.0


def test_means_are_over_people_and_a_metric_that_never_applies_has_none():
    wall = row_of(lambda t, i: true_reading(t, i) | {"background": str(i)})
    assert wall.interval("diversity").mean == pytest.approx(0.5)  # half of the prompts leave the wall open
    assert wall.interval("prompt").mean < 1.0  # the other half asked for one
    nothing = row_of(true_reading, metrics=[])
    assert nothing.scores == {} == nothing.per_attribute


@pytest.mark.parametrize("change", [{"identities": 0}, {"references": []}, {"references": [0]}, {"size": 0}])
def test_a_protocol_without_people_or_references_is_refused_by_name(change):
    good = {"identities": 1, "prompts": 1, "images": 1, "references": [1], "seed": 0, "size": 64}
    assert from_mapping(ProtocolConfig, good).images == 1
    with pytest.raises(ConfigError, match=f"protocol.{next(iter(change))}"):
        from_mapping(ProtocolConfig, good | change, "protocol")
    assert CONFIG.prompts == 2
