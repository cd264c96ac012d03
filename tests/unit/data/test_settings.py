"""Settings of datasets that version 0.1 made, as their `dataset.json` has them, beside today's."""

import pytest
from support.preprocessing import SIZES

from pm.config import from_mapping
from pm.data.config import PreprocessConfig
from pm.data.dataset.settings import changes, upgraded
from pm.data.run.shards import settings_of
from pm.errors import ConfigError
from serving.compose import composed

COMMON = {
    "base": "f00",
    "vision_size": 32,
    "photos": "listing",
    "shard_photos": 128,
    "max_pixels": 120000000,
    "max_bytes": 100000000,
    "min_photos": 2,
    "dtype": "float32",
    "crop": {"face_share": 0.1, "working_side": 512, "max_upscale": 2.0},
    "features": {"storage": "float16", "repeat": 0, "noise_fills": 0, "train_layers": 12},
}
MODELS = {"parser": "en_core_web_sm", "sentences": "sentence-transformers/all-MiniLM-L6-v2"}
MODELS |= {"clip": "openai/clip-vit-large-patch14"}
MASK = dict.fromkeys(("iterations", "side", "max_share", "path", "label", "threshold"))
CAPTION = {"templates": [], **dict.fromkeys(("path", "prompt", "attempts", "max_tokens", "temperature"))}
TOON = {
    **COMMON,
    "min_side": 32,
    "near_duplicate": None,
    "embedder": "probe",
    "face": {"name": "sidecar", "min_size": 8, "upsample": None, "max_side": None, "pack": None, "threshold": None},
    "verify": {
        "rule": "similarity",
        "threshold": 5.0,
        "spread": "robust",
        "min_spread": {"insightface": 0.05, "dlib": 0.03, "probe": 0.1},
        "rounds": 4,
        "max_distance": {"insightface": 1.3, "dlib": 0.5, "probe": 1.0},
    },
    "mask": {**MASK, "name": "sidecar", "min_overlap": 0.3},
    "caption": {**CAPTION, "name": "sidecar"},
    "marking": {"rule": "auto", **MODELS},
}
PAPER = {
    **TOON,
    "min_side": 512,
    "near_duplicate": 4,
    "embedder": "dlib",
    "face": {"name": "dlib", "min_size": 256, "upsample": 1, "max_side": 1280, "pack": None, "threshold": None},
    "verify": {
        "rule": "similarity",
        "threshold": 8.0,
        "spread": "group",
        "min_spread": {"dlib": 0.0, "insightface": 0.0, "probe": 0.0},
        "rounds": 1,
        "max_distance": None,
    },
    "mask": {
        **MASK,
        "name": "mask2former",
        "min_overlap": 0.3,
        "path": "facebook/mask2former-swin-large-coco-panoptic",
        "label": "person",
        "threshold": 0.5,
    },
    "caption": {
        "name": "blip2",
        "templates": [],
        "path": "Salesforce/blip2-opt-2.7b",
        "prompt": "a photo of",
        "attempts": 5,
        "max_tokens": 40,
        "temperature": 1.0,
    },
    "marking": {"rule": "simple", **MODELS},
}
AS_PAPER = ["dataset=folder", "face=dlib", "verify=paper", "mask=mask2former", "caption=blip2", "marking=simple"]


@pytest.mark.parametrize("old, command", [(TOON, ["dataset=toon"]), (PAPER, AS_PAPER)])
def test_an_older_versions_dataset_was_made_with_todays_settings(old, command):
    cfg = composed("preprocess", ["dataset.root=photos", "dtype=float32", *command])
    del cfg["forget"]
    new = settings_of(from_mapping(PreprocessConfig, cfg), SIZES, "listing")
    assert changes(old, new) == []
    other = {**old, "verify": {**old["verify"], "threshold": 3.0}}
    assert [str(change) for change in changes(other, new)] == [
        f"verify.threshold: 3.0 there, {old['verify']['threshold']} now"
    ]
    assert upgraded(new) == new


def test_a_models_new_file_is_noticed_and_its_place_is_not(tmp_path):
    def made_with(content: bytes, name: str) -> dict:
        (tmp_path / name).write_bytes(content)
        cfg = composed("preprocess", ["dataset=toon", f"embedder.path={tmp_path / name}"])
        del cfg["forget"]
        return settings_of(from_mapping(PreprocessConfig, cfg), SIZES, "listing")

    first = made_with(b"weights", "a.safetensors")
    assert changes(first, made_with(b"weights", "b.safetensors")) == []
    assert [c.name for c in changes(first, made_with(b"others", "a.safetensors"))] == ["embedder.weights"]


def test_distances_are_the_embedders_and_the_rules_only_if_it_asks():
    def made_with(*settings: str) -> dict:
        cfg = composed("preprocess", ["dataset=toon", *settings])
        del cfg["forget"]
        return settings_of(from_mapping(PreprocessConfig, cfg), SIZES, "listing")

    (change,) = changes(made_with(), made_with("embedder.max_distance=1.1"))
    assert (change.group, str(change)) == ("verify", "embedder.max_distance: 1.0 there, 1.1 now")
    for rule in ("verify=paper", "verify=none"):
        assert made_with(rule) == made_with(rule, "embedder.max_distance=1.1", "embedder.min_spread=0.7")


@pytest.mark.parametrize("old", ["min_spread.probe", "max_distance"])
def test_settings_of_earlier_versions_say_what_they_are_now(old):
    cfg = composed("preprocess", ["dataset=toon", f"+verify.{old}=0.1"])
    del cfg["forget"]
    with pytest.raises(ConfigError, match=f"is now embedder.{old.split('.')[0]}"):
        from_mapping(PreprocessConfig, cfg)
