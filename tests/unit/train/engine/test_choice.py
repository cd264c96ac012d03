"""Every engine that ships is found by its file, and every YAML of one builds."""

from pathlib import Path

import pytest
import yaml

from pm.choice import part_names
from pm.config import from_mapping
from pm.train.engine.choice import EngineChoice

FILES = sorted((Path(__file__).resolve().parents[4] / "conf/engine").glob("*.yaml"))


def test_names():
    assert part_names(EngineChoice) == ["auto", "ddp", "zero"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_file_is_an_engine(file):
    engine = from_mapping(EngineChoice, yaml.safe_load(file.read_text()), "engine")
    stage = {"zero1": 1, "zero2": 2, "zero3": 3, "zero3_offload": 3}.get(file.stem)
    assert getattr(engine, "stage", None) == stage
    assert bool(getattr(engine, "deepspeed", {})) == (file.stem == "zero3_offload")
