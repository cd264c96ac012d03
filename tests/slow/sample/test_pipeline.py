"""Requests to images, through real (random) weights."""

import dataclasses
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from support.sampling import worst, write_adapter

from pm.config import from_mapping
from pm.errors import CheckpointError, ConfigError, RequestError
from pm.model.adapter import apply_adapter
from pm.model.adapter_file import load_adapter
from pm.model.base import load_base
from pm.model.photomaker import PhotoMaker
from pm.resources import resource
from pm.sample.config import SamplerConfig, usual_merge_fraction
from pm.sample.pipeline import PhotoMakerPipeline
from pm.sample.request import Request
from pm.sample.schedules.unipc import Unipc


@pytest.fixture(scope="module", params=["insert", "repeat"])
def adapter_file(request, tiny_base, tmp_path_factory) -> Path:
    return write_adapter(tiny_base, tmp_path_factory.mktemp("adapter") / "a.safetensors", merge=request.param)


@pytest.fixture(scope="module")
def pipeline(tiny_base, adapter_file) -> PhotoMakerPipeline:
    return PhotoMakerPipeline.from_pretrained(tiny_base, adapter_file)


def test_batch_equals_singles_with_everything_different(pipeline, photos):
    mask = Image.new("L", (40, 40), 0)
    mask.paste(255, (10, 10, 30, 30))
    requests = [
        Request("a man img in a red shirt", photos[:1], seed=1, steps=2),
        Request("a photo of a woman img with glasses", photos[1:4], seed=2, steps=4, guidance=1.0, merge_step=2),
        Request("portrait of a man img", photos[2:4], seed=3, steps=3, weights=[0.5, 1.5], negative_prompt="a hat"),
        Request("a man img smiling", photos[:2], seed=4, steps=2, masks=[mask, None], eta=0.5, merge_step=0),
        Request("a man img smiling", photos[:4], seed=2**40, steps=2, width=48, height=24),
        Request("a man img smiling", photos[:1], seed=5, steps=4, schedule="dpmpp_2m", guidance_end=0.5),
        Request("a man img smiling", photos[:1], seed=6, steps=3, schedule="lcm", guidance=1.0),
        Request("a man img smiling", photos[:1], seed=7, steps=3, schedule=Unipc("unipc", karras=True)),
    ]
    together = pipeline.generate(requests, batch_size=3)
    assert [image.size for image in together] == [(32, 32)] * 4 + [(48, 24)] + [(32, 32)] * 3
    for image, request in zip(together, requests, strict=True):
        assert worst(image, pipeline.generate([request])[0]) <= 1


def test_each_input_matters(pipeline, photos):
    request = Request("a man img in a red shirt", photos[:2], seed=1, steps=4, merge_step=0)
    mask = Image.new("L", (40, 40), 0)
    changes = [
        {"prompt": "a man img in a blue shirt"},
        {"id_images": photos[2:4]},
        {"masks": [mask, mask]},
        {"weights": [1.0, 0.0]},
        {"seed": 2},
        {"steps": 5},
        {"guidance": 2.0},
        {"merge_step": 2},
        {"negative_prompt": "a hat"},
        {"eta": 1.0},
        {"schedule": "euler"},
        {"guidance_start": 0.5},
        {"guidance_end": 0.5},
    ]
    base, *rest = pipeline.generate([request] + [dataclasses.replace(request, **change) for change in changes], 16)
    same = [change for change, image in zip(changes, rest, strict=True) if worst(base, image) == 0]
    assert same == []


def test_fused_lora_is_the_lora(adapter_file, pipeline, tiny_base, photos):
    """Fused and swapped in, or by PEFT beside the matrices as in training."""
    request = Request("a man img in a red shirt", photos[:2], seed=1, steps=4, merge_step=0)
    state, meta = load_adapter(adapter_file)
    trained = PhotoMaker(load_base(tiny_base), meta.config(state), vision_config=meta.vision_config)
    apply_adapter(trained, state, meta)
    beside = PhotoMakerPipeline(trained.base, trained.eval())
    expected = beside.generate([request])[0]
    assert worst(pipeline.generate([request])[0], expected) <= 1
    for name, parameter in trained.unet.named_parameters():
        if "lora_B" in name:
            torch.nn.init.zeros_(parameter)
    assert worst(beside.generate([request])[0], expected) > 1


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"prompt": "a man in a shirt"}, "lacks the trigger"),
        ({"prompt": "a man img in a (red:11) shirt"}, "weight 11"),
        ({"negative_prompt": "(red:11)"}, "weight 11"),
        ({"id_images": []}, "0 ID images given; this adapter takes 1 to 4"),
        ({"id_images": [Image.new("RGB", (8, 8))] * 5}, "5 ID images given"),
        ({"weights": [1.0, 2.0]}, "2 weights given for 1 ID images"),
        ({"weights": [-1.0]}, "weight -1.0"),
        ({"weights": [float("nan")]}, "weight nan"),
        ({"masks": []}, "0 masks given for 1"),
        ({"steps": 0}, "steps=0"),
        ({"steps": 2000}, "steps=2000"),
        ({"guidance": -1.0}, "guidance=-1.0"),
        ({"guidance": float("inf")}, "guidance=inf"),
        ({"merge_step": 5}, "merge_step=5 is out of range; use 0 to steps=4"),
        ({"merge_step": -1}, "merge_step=-1"),
        ({"width": -30}, "width=-30 must be a multiple of 8"),
        ({"width": "30"}, "width='30' must be a whole number"),
        ({"height": 0}, "height=0"),
        ({"width": 72}, "width=72 is out of range: this base draws 32 x 32 pixels; use up to 64 along a side"),
        ({"seed": -1}, "seed=-1"),
        ({"eta": 1.5}, "eta=1.5"),
        ({"eta": 0.5, "schedule": "unipc"}, "eta=0.5 needs schedule=ddim or tcd; unipc takes none"),
        ({"schedule": "dpmpp"}, "schedule='dpmpp' is not one of .*did you mean 'dpmpp_2m'?"),
        ({"schedule": 7}, "schedule=7 is no schedule"),
        ({"schedule": "lcm", "steps": 60, "merge_step": 0}, "steps=60 .* schedule=lcm; use 1 to 50"),
        ({"guidance_start": 0.6, "guidance_end": 0.4}, "guidance_start=0.6 and guidance_end=0.4 must be shares"),
        ({"guidance_end": float("nan")}, "guidance_end=nan"),
        ({"guidance_start": "half"}, "guidance_start=half"),
    ],
)
def test_what_cannot_be_served_is_refused_before_sampling(pipeline, photos, changes, says):
    good = Request("a man img in a red shirt", photos[:1], steps=4)
    with pytest.raises(RequestError, match=says) as caught:
        pipeline.generate([good, dataclasses.replace(good, **changes)])
    assert "\n" not in str(caught.value)


def test_sides_are_rounded_with_a_warning_or_made_from_an_aspect(pipeline, photos, caplog):
    odd = Request("a man img in a red shirt", photos[:1], steps=2, width=30, height=45)
    (image,) = pipeline.generate([odd])
    assert image.size == (32, 48) == pipeline.size(odd)
    said = "width=30 is no multiple of 8, 32 is taken; height=45 is no multiple of 8, 48 is taken"
    assert [record.message for record in caplog.records] == [said]
    assert worst(image, pipeline.generate([dataclasses.replace(odd, width=32, height=48)])[0]) == 0
    assert pipeline("a man img", input_id_images=photos[:1], num_inference_steps=2, width=30).images[0].size == (32, 32)
    assert pipeline.sides(aspect="2:1") == (48, 24) and pipeline.sides() == (32, 32)
    with pytest.raises(RequestError, match="aspect='2:1' is given beside width or height"):
        pipeline.sides(32, aspect="2:1")


def test_the_identity_joins_where_the_configuration_says(tiny_base, adapter_file, photos):
    request = Request("a man img in a red shirt", photos[:1], steps=10)
    fractions = [
        yaml.safe_load(resource(f"conf/sampler/{n}.yaml").read_text())["merge_fraction"] for n in ("sdxl", "toon")
    ]
    assert [usual_merge_fraction(drawn) for drawn in (False, True)] == fractions and fractions[0] != fractions[1]
    usual = fractions[1]  # the tiny base is one of drawings
    for fraction, first in ((None, round(10 * usual)), (0.5, 5), (0.0, 0)):
        pipeline = PhotoMakerPipeline.from_pretrained(tiny_base, adapter_file, merge_fraction=fraction)
        assert pipeline.prepare([request])[0].merge_step == pipeline.merge_step(request) == first
        assert pipeline.merge_step(dataclasses.replace(request, merge_step=3)) == 3


def test_base_alone_takes_plain_prompts_only(tiny_base, photos):
    pipeline = PhotoMakerPipeline.from_pretrained(tiny_base)
    assert pipeline.generate([Request("a man in a red shirt", steps=2)])[0].size == (32, 32)
    assert pipeline.trigger_word is None and pipeline.max_id_images is None
    with pytest.raises(RequestError, match="no adapter is in use"):
        pipeline.check(Request("a man", photos[:1]))


def test_a_base_without_its_parts_is_refused(tiny_base):
    with pytest.raises(CheckpointError, match="was not loaded whole"):
        PhotoMakerPipeline(load_base(tiny_base, parts=("unet",)))


def test_sampler_config_checks_its_ranges():
    good = {"schedule": "ddim", "steps": 50, "guidance": 5.0, "merge_fraction": 0.2}
    good |= {"eta": 0.0, "negative_prompt": "", "batch_size": 4}
    good |= {"guidance_start": 0.0, "guidance_end": 1.0, "cache_interval": 1, "loras": []}
    assert from_mapping(SamplerConfig, good, "sampler").merge_step == 10
    for name, value in (
        ("steps", 0),
        ("batch_size", 0),
        ("guidance", -1.0),
        ("merge_fraction", 1.5),
        ("eta", 2.0),
        ("guidance_end", 2.0),
    ):
        with pytest.raises(ConfigError, match=f"sampler.{name}={value}"):
            from_mapping(SamplerConfig, good | {name: value}, "sampler")
