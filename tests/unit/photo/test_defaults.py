"""Defaults stand in `conf/` and nowhere else."""

from dataclasses import asdict

import yaml

from pm.photo.defaults import shipped_preparation
from pm.resources import resource


def test_they_are_those_of_the_configuration():
    how = shipped_preparation()
    for group, part in (("face", how.face), ("mask", how.mask), ("crop", how.crop)):
        name = "paper" if group == "crop" else part.name
        assert asdict(part) == yaml.safe_load(resource(f"conf/{group}/{name}.yaml").read_text())
