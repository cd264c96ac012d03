"""Many portraits from a manifest: all rows are checked first, and what is there is not made again."""

import json

import numpy as np
import pytest
from PIL import Image
from support.loras import as_peft, random_pairs, write
from support.sampling import worst, write_adapter

from pm.config import from_mapping
from pm.errors import ConfigError, RequestError
from pm.model.base import load_base
from pm.sample.config import GenerateConfig
from pm.sample.many import Portraitist, generate_all
from pm.sample.rows import read_manifest
from serving.compose import composed


@pytest.fixture(scope="module")
def folder(tiny_base, tmp_path_factory):
    path = tmp_path_factory.mktemp("many")
    write_adapter(tiny_base, path / "a.safetensors")
    for person in ("ann", "bob"):
        (path / person).mkdir()
        for i in range(2):
            pixels = np.random.default_rng(len(person) + i).integers(0, 256, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path / person / f"{i}.png")
    return path


def config(base, folder, manifest, *more):
    values = {
        "base.path": base, "base.vision_path": base / "image_encoder", "adapter": folder / "a.safetensors",
        "manifest": manifest, "output": folder / "out", "sampler.steps": 2, "sampler.batch_size": 2,
        "preprocess": "none", "device": "cpu", "workers.num": 0, "protect": "none",
    }  # fmt: skip
    return from_mapping(GenerateConfig, composed("generate", [*(f"{k}={v}" for k, v in values.items()), *more]))


@pytest.fixture
def batches(monkeypatch):
    made, make = [], Portraitist.make
    monkeypatch.setattr(Portraitist, "make", lambda self, r, t: made.append(len(r)) or make(self, r, t))
    return made


GOOD = """photos,prompt,seeds,output
ann,a woman img at sea,0-2,ann_sea
bob/0.png;bob/1.png,a man img reading,7,bob.png
"""


def test_every_row_has_its_pictures_and_they_are_made_once(tiny_base, folder, batches):
    manifest = folder / "people.csv"
    manifest.write_text(GOOD)
    assert generate_all(config(tiny_base, folder, manifest)) == (4, 4) and batches == [2, 2]
    names = ["ann_sea-0.png", "ann_sea-1.png", "ann_sea-2.png", "bob.png"]
    files = {p.name: p.read_bytes() for p in sorted((folder / "out").iterdir())}
    assert list(files) == names
    with Image.open(folder / "out" / "bob.png") as image:
        assert image.text["prompt"] == "a man img reading" and image.text["seed"] == "7"
        assert image.text["id_images"] == "0.png, 1.png"
    batches.clear()
    assert generate_all(config(tiny_base, folder, manifest)) == (0, 4) and not batches
    (folder / "out" / "ann_sea-1.png").write_bytes(files["ann_sea-1.png"][:40])  # cut short
    assert generate_all(config(tiny_base, folder, manifest)) == (1, 4) and batches == [2]
    assert {p.name: p.read_bytes() for p in (folder / "out").iterdir()} == files
    assert generate_all(config(tiny_base, folder, manifest, "sampler.guidance=2")) == (4, 4)  # others than before


BAD = [
    {"photos": ["ann"], "prompt": "a woman img at sea", "output": "fine"},
    {"photos": ["nobody"], "prompt": "a woman img", "output": "x1"},
    {"photos": ["ann"], "prompt": "a woman at sea", "output": "x2"},
    {"photos": ["ann"], "prompt": "a woman img", "seeds": "4-1", "output": "x3"},
    {"photos": ["ann"], "prompt": "a woman img", "output": "../x4"},
    {"photos": [], "prompt": "a woman img", "output": "x5"},
    {"photos": ["ann"], "prompt": "a woman img", "output": "fine"},
    {"photos": ["ann"], "prompt": "", "output": "x7"},
]


def test_all_wrong_rows_are_named_before_anything_is_made(tiny_base, folder, batches, capsys):
    manifest = folder / "people.jsonl"
    manifest.write_text("\n".join(map(json.dumps, BAD)))
    out = f"output={folder}/bad"
    with pytest.raises(RequestError) as error:
        generate_all(config(tiny_base, folder, manifest, out))
    said = str(error.value)
    for number, why in {
        2: "no photo at", 3: "lacks the trigger word", 4: "seeds='4-1'", 5: "is no name of a file",
        6: "it has no photos", 7: "fine.png is that of row 1", 8: "it has no prompt",
    }.items():  # fmt: skip
        assert f"row {number}: " in said and why in said.split(f"row {number}: ")[1].split("; row ")[0]
    assert not batches and not (folder / "bad").exists()
    assert generate_all(config(tiny_base, folder, manifest, out, "skip_bad_rows=true")) == (1, 1)
    assert [p.name for p in (folder / "bad").iterdir()] == ["fine.png"]
    assert "row 8: it has no prompt; left out" in capsys.readouterr().out


def test_a_manifest_that_is_none_and_settings_that_contradict_it(tiny_base, folder):
    (folder / "few.csv").write_text("photos,prompt\nann,x\n")
    with pytest.raises(RequestError, match="has no column output"):
        read_manifest(folder / "few.csv")
    with pytest.raises(RequestError, match="cannot be read"):
        read_manifest(folder / "nowhere.csv")
    (folder / "empty.jsonl").write_text("")
    with pytest.raises(RequestError, match="has no row"):
        read_manifest(folder / "empty.jsonl")
    with pytest.raises(ConfigError, match="has photos and prompts; leave out prompt"):
        config(tiny_base, folder, "x.csv", "prompt=a man img")


def test_rows_have_loras_of_their_own(tiny_base, folder):
    write(folder / "ink.safetensors", as_peft(random_pairs(load_base(tiny_base), 1)))
    manifest = folder / "styles.jsonl"
    rows = [
        {"output": "plain"},
        {"output": "inked", "loras": ["ink.safetensors:0.8"]},
        {"output": "wrong", "loras": "oil.safetensors"},
        {"output": "odd", "loras": {"ink.safetensors": "much"}},
    ]
    common = {"photos": ["ann"], "prompt": "a woman img at sea"}
    manifest.write_text("\n".join(json.dumps(row | common) for row in rows))
    out = f"output={folder / 'styled'}"
    with pytest.raises(
        RequestError, match=r"row 3: LoRA oil\.safetensors does not exist.*row 4: .*'much' must be a num"
    ):
        generate_all(config(tiny_base, folder, manifest, out))
    assert generate_all(config(tiny_base, folder, manifest, out, "skip_bad_rows=true")) == (2, 2)
    plain, inked = (Image.open(folder / "styled" / f"{name}.png") for name in ("plain", "inked"))
    assert worst(plain, inked) > 8
    assert inked.text["loras"] == f"{folder / 'ink.safetensors'}:0.8" and "loras" not in plain.text
    write(folder / "ink.safetensors", as_peft(random_pairs(load_base(tiny_base), 2)))  # another one of that name
    assert generate_all(config(tiny_base, folder, manifest, out, "skip_bad_rows=true")) == (1, 2)
