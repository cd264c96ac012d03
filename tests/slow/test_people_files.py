"""`generate` with several people, from the command line's own words."""

import json

import numpy as np
import pytest
from PIL import Image
from support.generating import settings
from support.sampling import write_adapter

from pm.config import from_mapping
from pm.errors import ConfigError, RequestError
from pm.sample.config import GenerateConfig
from pm.sample.like import repeat_of
from pm.sample.run import generate


@pytest.fixture(scope="module")
def adapter(tiny_base, tmp_path_factory):
    return write_adapter(tiny_base, tmp_path_factory.mktemp("people") / "a.safetensors")


def config(base, adapter, folder, *overrides, people="[]") -> GenerateConfig:
    own = ["prompt='a man img in a red shirt and a woman img2'", "images=1", "width=64", "preprocess=none"]
    return from_mapping(
        GenerateConfig, settings(base, adapter, folder, "id_images=[]", *own, f"people={people}", *overrides)
    )


def made(asked: GenerateConfig, **how) -> tuple[np.ndarray, dict]:
    with Image.open(generate(asked, progress=False, **how) / "0000.png") as image:
        return np.asarray(image).astype(int), dict(image.text)


def test_people_at_places_are_drawn_written_down_and_repeated(tiny_base, adapter, tmp_path):
    mask = Image.new("L", (64, 32))
    mask.paste(255, (32, 0, 64, 32))
    mask.save(tmp_path / "mask.png")
    first = f"{{photos:{tmp_path}/0.png,box:left}}"
    boxes = f"[{first},{{photos:['{tmp_path}/1.png'],box:[32,0,64,32],weights:[1]}}]"
    region = f"[{first},{{photos:{tmp_path}/1.png,region:{tmp_path}/mask.png}}]"
    found = f"[{{photos:{tmp_path}/0.png}},{{photos:'{tmp_path}/[1].png'}}]"
    pictures = {
        name: made(config(tiny_base, adapter, tmp_path, f"output={tmp_path / name}", people=people))
        for name, people in (("boxes", boxes), ("region", region), ("found", found))
    }
    assert np.array_equal(pictures["boxes"][0], pictures["region"][0])
    assert not np.array_equal(pictures["boxes"][0], pictures["found"][0])
    said = pictures["boxes"][1]
    assert said["people"] == "0.png (left); 1.png ([32.0, 0.0, 64.0, 32.0])" and said["id_images"] == "0.png, 1.png"
    assert pictures["found"][1]["merge_step"] == "1" and said["merge_step"] == "0"
    # A pattern is written down as the photos that it meant, and these by their contents.
    assert json.loads(pictures["found"][1]["settings"])["people"][1]["photos"] == [f"{tmp_path}/1.png"]
    assert len(json.loads(pictures["region"][1]["files"])["people"]) == 3
    repeat = repeat_of(tmp_path / "region" / "0000.png", settings(tiny_base, adapter, tmp_path, "id_images=[]"))
    again, _ = made(repeat.config, repeat=repeat)
    assert np.array_equal(again, pictures["region"][0])
    alone = settings(tiny_base, adapter, tmp_path)
    one = repeat_of(tmp_path / "region" / "0000.png", alone, ["id_images", "prompt"]).config
    assert one.people == () and len(one.id_images) == 1


@pytest.mark.parametrize(
    ("people", "more", "error", "message"),
    [
        ("[{photos:0.png,box:left}]", ["id_images=[0.png]"], ConfigError, "id_images and weights are for one person"),
        (
            "[{photos:0.png,box:left}]",
            ["adapter=null"],
            ConfigError,
            "adapter=null samples the base alone; leave out p",
        ),
        ("[{photos:0.png,place:left}]", [], ConfigError, r"unknown config key 'people\[0\].place'.*valid keys: box"),
        ("[{photos:0.png,box:1}]", [], ConfigError, r"people\[0\].box=1 must be one of the types list, str"),
        ("[{photos:no.png},{photos:no.png}]", [], RequestError, "no photo at .*no.png"),
        ("[{photos:0.png,box:left},{photos:1.png,box:left}]", [], RequestError, "person 1 and person 2 overlap"),
        ("[{photos:0.png,region:no.png},{photos:1.png,box:left}]", [], RequestError, "region of person 1=no.png does"),
        ("[{photos:[0.png,1.png],weights:[1]},{photos:1.png}]", [], RequestError, "1 weights given for 2 ID images"),
    ],
)
def test_mistakes_are_named_before_a_model_is_loaded(
    tiny_base, adapter, tmp_path, monkeypatch, people, more, error, message
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        generate(config(tiny_base, adapter, tmp_path, *more, people=people), progress=False)
    assert not (tmp_path / "out").exists()
