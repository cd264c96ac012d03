import re

import pytest
from support.preprocessing import DLIB, SIMILARITY, settings

from pm.config import from_mapping
from pm.data.config import PreprocessConfig
from pm.data.records import Reject
from pm.data.run.advice import advise
from pm.data.run.steps import stages_of


@pytest.fixture(scope="module")
def stages():
    return stages_of(from_mapping(PreprocessConfig, settings()))


def small(*sizes):
    return [("anna", Reject("faces", "face_too_small", float(size), 256.0)) for size in sizes]


def test_the_most_expensive_threshold_comes_first_with_an_override_that_lets_in_the_usable_ones(stages):
    rejects = small(91, 120, 200, 12, 255) + [("ben", Reject("ingest", "too_small", 301.0, 512.0))]
    rejects += [("ben", Reject("verify", "too_few_photos", 1.0, 2.0))]
    (line,) = advise(rejects, 13, stages)
    assert line.startswith("face.min_size=256 cost most photos, 5 of 13; the same command with ")
    assert re.search(r"with face.min_size=91 dataset.min_side=300 continues in the same folder and looks at 5 of", line)


def test_upper_limits_and_values_beyond_what_is_usable(stages):
    upscaled = [("a", Reject("crop", "upscaled", value, 2.0)) for value in (2.31, 3.02, 9.5)]
    (line,) = advise(upscaled, 3, stages)
    assert "crop.max_upscale=2 cost most photos, 3 of 3" in line and "with crop.max_upscale=3.1 continues" in line
    assert "looks at 2 of them" in line
    assert advise(small(12, 20), 2, stages) == []  # no setting makes a face of 20 pixels useful


def test_too_few_photos_is_a_reason_where_there_is_no_other(stages):
    few = [("a", Reject("verify", "too_few_photos", 1.0, 2.0))] * 3
    (line,) = advise(few, 3, stages)
    assert "min_photos=2 cost most photos" in line and "with min_photos=1 continues" in line


def test_a_folder_of_several_people_is_named_as_such(stages):
    rejects = [(who, Reject("verify", "no_common_person", 0.66, 0.5)) for who in ("bob_man", "eve_woman") for _ in "12"]
    (line,) = advise(rejects, 8, stages)
    assert "4 photos: the folder bob_man, eve_woman seems to hold several people" in line and "verify=none" in line


def test_a_filter_that_does_what_it_is_for_needs_no_advice(stages):
    assert advise(small(200), 20, stages) == []


def test_every_setting_advised_is_one_of_preprocessings(stages):
    config = from_mapping(PreprocessConfig, settings(verify=SIMILARITY, embedder=DLIB))
    found = [remedy.setting for stage in stages for remedy in stage.remedies.values() if remedy.setting]
    assert len(found) >= 8
    for name in found:
        value = config
        for part in name.split("."):
            value = getattr(value, part)
