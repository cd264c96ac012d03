"""Settings of face, mask and crop in files of earlier versions."""

import dataclasses
from pathlib import Path

import pytest

from pm.errors import ConfigError
from pm.model.adapter_file import load_adapter
from pm.photo.crop import CropConfig
from pm.photo.faces.dlib import Dlib
from pm.photo.faces.sidecar import Sidecar as AnnotatedFaces
from pm.photo.masks.grabcut import GrabCut
from pm.photo.masks.sidecar import Sidecar as AnnotatedMask
from pm.photo.stored import Preparation, read_preparation

ROOT = Path(__file__).resolve().parents[3]
CROP = {"face_share": 0.1, "working_side": 512, "max_upscale": 2}
# As version 0.1 wrote them: every choice with the fields of all others.
FACE = {"name": "dlib", "min_size": 80, "upsample": 1, "max_side": 1280, "pack": None, "threshold": None}
MASK = {"name": "grabcut", "min_overlap": 0.3, "iterations": 5, "side": 256, "max_share": 0.95}
MASK |= {"path": None, "label": None, "threshold": None}


def test_settings_of_version_0_1_are_read():
    read = read_preparation({"face": FACE, "mask": MASK, "crop": CROP})
    assert read == Preparation(
        Dlib("dlib", 80, upsample=1, max_side=1280), GrabCut("grabcut", 0.3, 0.95, 5, 256), CropConfig(0.1, 512, 2.0)
    )


def test_the_shipped_adapter_is_read():
    _, meta = load_adapter(ROOT / "assets" / "toon" / "adapter.safetensors")
    read = read_preparation(meta.extra["preprocess"])
    assert read.face == AnnotatedFaces("sidecar", 8)
    assert read.mask == AnnotatedMask("sidecar", 0.3, 1.0)  # no limit was one of GrabCut's alone


def test_what_this_version_writes_is_read_again():
    read = read_preparation({"face": FACE, "mask": MASK, "crop": CROP})
    assert read_preparation(dataclasses.asdict(read)) == read
    assert read_preparation({**dataclasses.asdict(read), "mask": None}).mask is None


def test_a_file_names_no_module_to_import(monkeypatch, tmp_path):
    (tmp_path / "hostile").mkdir()
    (tmp_path / "hostile" / "__init__.py").write_text("")
    (tmp_path / "hostile" / "part.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    for group in ("face", "mask"):
        values = {"face": FACE, "mask": MASK, "crop": CROP}
        values[group] = {**values[group], "name": "hostile.part"}
        with pytest.raises(ConfigError, match=f"{group}='hostile.part' names a module"):
            read_preparation(values)


def test_a_setting_that_nobody_knows_is_named():
    with pytest.raises(ConfigError, match=r"face\.upsamples.*did you mean 'upsample'"):
        read_preparation({"face": {**FACE, "upsamples": 2}, "mask": MASK, "crop": CROP})
