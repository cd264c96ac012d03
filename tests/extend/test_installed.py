"""A package that is installed brings its parts by entry points, and its YAML with them: nothing else has to be said."""

import dataclasses

import pytest

from pipelines._help import choices, command_help
from pm.choice import may_be_named, part_names
from pm.config import from_mapping
from pm.data.config import PreprocessConfig
from pm.evaluate.config import EvaluateConfig
from pm.model.compose.base import ComposeChoice, compose_from_text, compose_to_text
from pm.model.families.base import Family, find_family
from pm.photo.stored import read_preparation
from serving.compose import composed

ENTRY_POINTS = """
[photomaker.conf]
my_parts = my_parts.conf
[photomaker.face]
passport = my_parts.passport
[photomaker.compose]
pairs = my_parts.pairs
[photomaker.family]
clip_skip = my_parts.clip_skip
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """What `pip install` leaves beside a package."""
    about = tmp_path / "my_parts-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: my_parts\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(tmp_path)


def test_its_yaml_is_found_without_a_folder_on_the_command_line(installed):
    cfg = composed("preprocess", ["face=passport", "dataset.root=photos", "face.name=passport", "face.top=0.1"])
    del cfg["forget"]
    face = from_mapping(PreprocessConfig, cfg).face
    assert (type(face).__module__, face.name, face.top) == ("my_parts.passport", "passport", 0.1)


def test_help_lists_it_and_says_from_where(installed):
    shown = command_help("preprocess", "Words.\n\nphotomaker preprocess", "photomaker preprocess")
    (line,) = (line for line in shown.splitlines() if line.strip().startswith("face="))
    assert "passport (from my_parts)" in line and "yunet" in line and "passport" in choices("face")


def test_its_metric_is_one_of_the_list_with_its_yaml(installed):
    for given, white in (("brightness", 255), ("{name: brightness, white: 100}", 100)):
        _, own = from_mapping(EvaluateConfig, composed("evaluate", [f"metrics=[prompt,{given}]"])).metrics
        assert (type(own).__module__, own.white) == ("my_parts.brightness", white)


def test_an_adapter_may_name_its_parts(installed):
    """By the name of the entry point; that of the module stays a matter of what this program imports."""
    pairs = compose_from_text('{"name": "pairs", "blend": 0.5}')
    assert (type(pairs).__module__, pairs.per_photo) == ("my_parts.pairs", 2)
    assert compose_from_text(compose_to_text(pairs)) == pairs
    stored = {"name": "passport", "min_size": 8, "height": 0.5, "top": 0.2}
    crop = {"face_share": 0.1, "working_side": 512, "max_upscale": 2}
    read = read_preparation({"face": stored, "mask": None, "crop": crop})
    assert dataclasses.asdict(read.face) == stored


def test_its_family_is_one_of_those_that_are_asked(installed, tiny_sd15):
    assert "clip_skip" in part_names(Family)
    assert find_family(tiny_sd15, "clip_skip").title == "Stable Diffusion 1.x with clip skip 2"
    assert find_family(tiny_sd15).name == "sd15"  # it claims no file


def test_without_it_there_is_no_such_part():
    assert not may_be_named(ComposeChoice, "pairs") and "clip_skip" not in part_names(Family)
