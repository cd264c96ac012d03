"""Configuration to pictures on disk."""

import dataclasses
import errno
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.loras import TEXT, as_kohya, as_peft, random_pairs, write
from support.sampling import worst, write_adapter, write_ip_adapter

from pm.errors import CheckpointError, ConfigError, PmError, RequestError, WriteError
from pm.model.adapter import adapter_state, meta_of
from pm.model.adapter_file import load_adapter, save_adapter
from pm.model.base import load_base
from pm.model.compose.average import Average
from pm.model.config import AdapterConfig, BaseConfig
from pm.model.photomaker import PhotoMaker
from pm.photo.defaults import shipped_preparation
from pm.sample import run
from pm.sample.config import GenerateConfig, SamplerConfig
from pm.sample.devices import pick_device, pick_dtype
from pm.sample.identity import PHOTOGRAPHS
from pm.sample.pipeline import PhotoMakerPipeline
from pm.sample.run import generate
from pm.sample.schedules.euler import Euler
from pm.tasks import WorkersConfig
from pm.weights import fingerprint


@pytest.fixture(scope="module")
def adapter(tiny_base, tmp_path_factory) -> Path:
    model = PhotoMaker(
        load_base(tiny_base), AdapterConfig(Average("average"), "insert", 2, ("to_q",), 0, 4, "img", False)
    )
    path = tmp_path_factory.mktemp("adapter") / "a.safetensors"
    save_adapter(path, adapter_state(model), meta_of(model, crop_mode="none", project_version="0"))
    return path


@pytest.fixture
def config(tiny_base, adapter, tmp_path) -> GenerateConfig:
    shutil.copy(adapter, tmp_path)
    for i in range(2):
        pixels = np.random.default_rng(i).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    return GenerateConfig(
        base=BaseConfig(str(tiny_base), str(tiny_base / "image_encoder")),
        sampler=SamplerConfig(Euler("euler"), 2, 3.0, 0.5, 0.0, "", 4, 0.0, 1.0, 1, ()),
        check_base=True,
        adapter=str(tmp_path / "a.safetensors"),
        prompt="a robot img in a red shirt",
        id_images=(str(tmp_path / "*.png"),),
        weights=None,
        people=(),
        scale=None,
        image=None,
        mask_image=None,
        strength=None,
        controls=(),
        image_prompt=None,
        loras=(),
        guidance_rescale=0.0,
        clip_skip=0,
        id_strength=1.0,
        id_start=None,
        id_end=1.0,
        prompt_weighting="explicit",
        trigger="required",
        images=3,
        seed=5,
        width=None,
        height=None,
        face=None,
        mask=None,
        embedder=None,
        preprocess="auto",
        photo=shipped_preparation(),
        pick="largest",
        references="lenient",
        class_words=("Robot",),
        modules=(),
        output=str(tmp_path / "out"),
        device="cpu",
        dtype="auto",
        compile="off",
        png_level=6,
        offload="none",
        vae_tiling=False,
        quantize=None,
        aspect=None,
        format="png",
        quality=95,
        x=None,
        y=None,
        like=None,
        manifest=None,
        skip_bad_rows=False,
        workers=WorkersConfig(0, 1),
    )


def test_numbered_pictures_and_one_grid_that_say_how_they_were_made(config):
    folder = generate(config, progress=False)
    assert sorted(p.name for p in folder.iterdir()) == ["0000.png", "0001.png", "0002.png", "grid.png"]
    with Image.open(folder / "0002.png") as image:
        assert image.size == (32, 32)
        assert image.text["prompt"] == config.prompt and image.text["seed"] == "7"
        assert image.text["adapter"] == config.adapter and image.text["id_images"] == "0.png, 1.png"
        assert (image.text["merge_step"], image.text["schedule"], image.text["weights"]) == ("1", "euler", "1")
    with Image.open(folder / "grid.png") as image:
        assert image.width > 5 * 192


def test_when_and_how_strongly_the_person_is_seen_is_written_down(config, capsys):
    changes = {"prompt": "a person in a (red:1.3) shirt", "trigger": "auto", "id_strength": 0.5, "id_start": 0.0}
    folder = generate(dataclasses.replace(config, images=1, id_end=0.5, **changes), progress=False)
    with Image.open(folder / "0000.png") as image:
        said = {name: image.text[name] for name in ("prompt", "trigger", "id_strength", "merge_step", "id_end")}
    assert said == {
        "prompt": changes["prompt"],
        "trigger": "auto",
        "id_strength": "0.5",
        "merge_step": "0",
        "id_end": "0.5",
    }
    assert (
        "note: the prompt has no trigger word; it was read as 'a person img in a (red:1.3) shirt'"
        in capsys.readouterr().out
    )


def test_a_class_word_of_no_list_is_asked_about(config, capsys):
    generate(dataclasses.replace(config, images=1, class_words=()), progress=False)
    assert "note: 'robot' stands before 'img': is it the word for the person?" in capsys.readouterr().out


def test_many_pictures_make_a_grid_of_several_lines(config):
    folder = generate(dataclasses.replace(config, images=8), progress=False)
    with Image.open(folder / "grid.png") as image:
        assert image.width < 9 * 200 and image.height > 2 * 192


def test_photographs_on_a_base_of_drawings_are_noted_once(config, tmp_path, capsys, caplog):
    generate(dataclasses.replace(config, images=1), progress=False)  # noise stands for photographs
    assert capsys.readouterr().out.count(f"note: {PHOTOGRAPHS}") == 1
    pipeline = PhotoMakerPipeline.from_pretrained(config.base.path, config.adapter)
    for _ in range(2):
        pipeline.references([str(tmp_path / "0.png")])
    assert [r.message for r in caplog.records] == [PHOTOGRAPHS]
    for i in range(2):
        Image.new("RGB", (50, 40), "blue").save(tmp_path / f"{i}.png")
    generate(dataclasses.replace(config, images=1), progress=False)
    assert PHOTOGRAPHS not in capsys.readouterr().out


def test_a_full_disk_is_one_line(config, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pm.sample.run.save_picture", full)
    with pytest.raises(WriteError, match="out cannot be written, the disk is full .*choose another output="):
        generate(config, progress=False)


def test_a_module_of_the_users_own_must_be_importable(config):
    with pytest.raises(ConfigError, match="modules=no_such_module cannot be imported"):
        generate(dataclasses.replace(config, modules=("no_such_module",)), progress=False)


def test_base_alone(config):
    plain = dataclasses.replace(config, adapter=None, id_images=(), prompt="a robot", images=1)
    assert (generate(plain, progress=False) / "0000.png").is_file()


def test_another_base_only_when_asked_for(config, tmp_path):
    from pm.toon.base import write_random_base

    other = str(write_random_base(tmp_path / "other", size="tiny", seed=1))
    moved = dataclasses.replace(config, base=BaseConfig(other, f"{other}/image_encoder"), images=1)
    with pytest.raises(PmError, match="check_base=false"):
        generate(moved, progress=False)
    assert (generate(dataclasses.replace(moved, check_base=False), progress=False) / "0000.png").is_file()


def test_photos_without_a_mask_are_noted_when_the_adapter_knows_masks(config, tmp_path, capsys):
    generate(dataclasses.replace(config, images=1), progress=False)
    assert "no mask" not in capsys.readouterr().out
    state, meta = load_adapter(config.adapter)
    save_adapter(config.adapter, state, dataclasses.replace(meta, crop_mode="face+mask"))
    generate(dataclasses.replace(config, images=1, preprocess="none"), progress=False)
    assert "0.png, 1.png have no mask" in capsys.readouterr().out
    Image.new("RGB", (50, 40), "blue").save(tmp_path / "0.png")
    with pytest.raises(RequestError, match="0.png: shows nobody in front of its background"):
        generate(dataclasses.replace(config, images=1), progress=False)


def test_a_failed_call_leaves_no_folder(config, tmp_path):
    with pytest.raises(RequestError, match="lacks the trigger"):
        generate(dataclasses.replace(config, prompt="a robot"), progress=False)
    with pytest.raises(PmError, match="nowhere"):
        generate(dataclasses.replace(config, adapter=str(tmp_path / "nowhere")), progress=False)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"prompt": "a robot in a red shirt"}, "lacks the trigger word; write 'img' after the person"),
        ({"prompt": "a (robot img:2)"}, "the person's weight 2 .* use 0 to 1.5"),
        ({"width": -8}, "width=-8 must be a multiple of"),
        ({"width": 32, "aspect": "square"}, "aspect='square' is given beside width or height"),
        ({"height": 4096}, "height=4096 is out of range: this base draws 32 x 32 pixels"),
        ({"seed": -1}, "seed=-1 is out of range"),
        (
            {"sampler": SamplerConfig(Euler("euler"), 1001, 3.0, 0.5, 0.0, "", 4, 0.0, 1.0, 1, ())},
            "steps=1001 is out of range",
        ),
        (
            {"sampler": SamplerConfig(Euler("euler"), 2, 3.0, 0.5, 0.5, "", 4, 0.0, 1.0, 1, ())},
            "eta=0.5 needs schedule=ddim",
        ),
        (
            {"sampler": SamplerConfig(Euler("euler"), 2, 3.0, 0.5, 0.0, "(ugly:20)", 4, 0.0, 1.0, 1, ())},
            "weight 20",
        ),
        ({"id_images": ("{}/0.png",) * 5}, "5 ID images given; this adapter takes 1 to 4"),
        ({"weights": (1.0,)}, "1 weights given for 2 ID images"),
        ({"weights": (1.0, -1.0)}, "weight -1.0 of an ID image must be 0 or more"),
        ({"adapter": "{}/0.png"}, "0.png is not a safetensors file"),
        ({"adapter": "nobody/nothing/at/all"}, "adapter nobody/nothing/at/all does not exist"),
        ({"device": "cuda:99"}, "device=cuda:99 is not there"),
    ],
)
def test_a_mistake_is_found_before_any_weights_are_loaded(config, tmp_path, monkeypatch, changes, says):
    """Which takes a minute at SDXL's size."""
    monkeypatch.setattr("pm.sample.run.load_pipeline", pytest.fail)
    placed = {
        name: tuple(str(v).format(tmp_path) for v in value) if name == "id_images" else value
        for name, value in changes.items()
    }
    placed |= {"adapter": changes["adapter"].format(tmp_path)} if "adapter" in changes else {}
    with pytest.raises(PmError, match=says):
        generate(dataclasses.replace(config, **placed), progress=False)


def test_an_adapter_of_another_base_is_found_before_any_weights_are_loaded(config, tiny_sd15, tmp_path, monkeypatch):
    from pm.model.families.base import Family

    other = write_adapter(tiny_sd15, tmp_path / "other.safetensors")
    monkeypatch.setattr(Family, "load_part", pytest.fail)
    with pytest.raises(CheckpointError, match=f"adapter {other} was trained on base .* use that base, or check_base"):
        PhotoMakerPipeline.from_pretrained(config.base.path, other)
    with pytest.raises(CheckpointError, match=rf"adapter {other} is made for text features of width \d+, those of"):
        generate(dataclasses.replace(config, adapter=str(other), check_base=False), progress=False)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"prompt": None}, "prompt is not set"),
        ({"id_images": ()}, "id_images is empty"),
        ({"adapter": None}, "adapter=null samples the base alone"),
    ],
)
def test_settings_that_cannot_work(config, changes, says):
    with pytest.raises(ConfigError, match=says):
        dataclasses.replace(config, **changes)


def test_device_and_precision():
    assert pick_device("cpu").type == "cpu"
    for name in ("gpu", "cuda:99"):
        with pytest.raises(ConfigError, match=f"device=.?{name}"):
            pick_device(name)
    assert pick_dtype("auto", torch.device("cpu")) == torch.float32
    assert pick_dtype("auto", torch.device("cuda")) == torch.bfloat16


def test_scale_is_that_of_an_image_prompt(config, tiny_base, tmp_path):
    with pytest.raises(RequestError, match="scale is for adapters with an image prompt"):
        generate(dataclasses.replace(config, scale=0.5), progress=False)
    file = write_ip_adapter(tiny_base, tmp_path / "ip.safetensors")
    pictures = []
    for scale in (0.0, 1.0):
        changes = {"adapter": str(file), "scale": scale, "output": str(tmp_path / str(scale)), "images": 1}
        folder = generate(dataclasses.replace(config, prompt="a man in a red shirt", **changes), progress=False)
        pictures.append(Image.open(next(p for p in folder.glob("*.png") if p.name != "grid.png")))
    assert worst(*pictures) > 3


def test_loras_are_applied_and_told(config, tiny_base, tmp_path):
    base = load_base(tiny_base)
    odd = write(tmp_path / "ink: wash (2).safetensors", as_peft(random_pairs(base, 1)))
    other = write(tmp_path / "oil.safetensors", as_kohya(random_pairs(base, 2, text=TEXT)))
    one = replace(config, images=1)
    plain = Image.open(generate(one, progress=False) / "0000.png")
    styled = replace(one, loras=(f"{odd}:0.8", str(other)), output=str(tmp_path / "styled"))
    image = Image.open(generate(styled, progress=False) / "0000.png")
    assert worst(image, plain) > 8
    assert image.text["loras"] == f"{odd}:0.8, {other}:1"
    assert image.text["loras_sha256"] == f"{fingerprint(odd)}, {fingerprint(other)}"
    assert "loras" not in plain.text


@pytest.mark.parametrize(
    ("lora", "message"),
    [
        ("missing.safetensors:0.5", r"LoRA missing\.safetensors does not exist"),
        ("PLACE/a.safetensors", r"is no LoRA but a PhotoMaker adapter"),
        ("PLACE/0.png", r"not a safetensors file"),
        ("PLACE", r"a\.safetensors is no LoRA"),  # the only file of the folder
    ],
)
def test_wrong_loras_are_refused_before_anything_is_loaded(config, monkeypatch, tmp_path, lora, message):
    monkeypatch.setattr(run, "load_pipeline", None)  # not reached
    with pytest.raises(CheckpointError, match=message):
        generate(replace(config, loras=(lora.replace("PLACE", str(tmp_path)),)), progress=False)
    with pytest.raises(RequestError, match="strength nan"):
        replace(config, loras=("a:nan",))


def test_the_loras_of_a_sampler_are_used(config, tiny_base, tmp_path):
    lora = write(tmp_path / "few.safetensors", as_peft(random_pairs(load_base(tiny_base), 1)))
    one = replace(config, images=1)
    plain = Image.open(generate(one, progress=False) / "0000.png")
    few = replace(one, sampler=replace(one.sampler, loras=(f"{lora}:0.8",)), output=str(tmp_path / "few"))
    image = Image.open(generate(few, progress=False) / "0000.png")
    assert worst(image, plain) > 8 and image.text["loras"] == f"{lora}:0.8"
    with pytest.raises(RequestError, match="strength nan"):
        replace(one.sampler, loras=("a:nan",))
