"""Requests of all kinds of adapters: beside each other in one batch, at scales of their own, and what is refused."""

import dataclasses

import pytest
import torch
from support.sampling import write_fastcomposer, write_ip_adapter

from pm.errors import CheckpointError, RequestError
from pm.sample.pipeline import PhotoMakerPipeline
from pm.sample.request import Request

PROMPT = "a man in a red shirt"


@pytest.fixture(scope="module")
def pipeline(tiny_base, adapter_files, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ip")
    pipeline = PhotoMakerPipeline.from_pretrained(tiny_base, adapter_files["one"])
    for name, projection in (("linear", "linear"), ("plus", "resampler")):
        file = write_ip_adapter(tiny_base, folder / f"{name}.safetensors", projection=projection)
        pipeline.load_photomaker_adapter(file, adapter_name=name)
    for name, rank in (("whole", None), ("lora", 4)):
        file = write_fastcomposer(tiny_base, folder / f"{name}.safetensors", rank=rank, seed=rank or 0)
        pipeline.load_photomaker_adapter(file, adapter_name=name)
    return pipeline


def request(photos=(), adapter="linear", **changes) -> Request:
    return dataclasses.replace(Request(PROMPT, tuple(photos), seed=3, steps=4, adapter=adapter), **changes)


@pytest.fixture
def mixed(photos):
    return [
        request(photos[:1], seed=1),
        request(photos[1:3], seed=2, scale=0.5, guidance=1.0),
        request(photos[:2], "plus", seed=3, steps=6),
        request(adapter="base", seed=4),
        request(photos[:3], "photomaker", prompt="a man img in a red shirt", seed=5, merge_step=2),
        request(photos[:4], seed=6, negative_prompt="a blue wall"),
        request(photos[:2], "whole", prompt="a man img in a red shirt", seed=7, merge_step=1),
        request(photos[:1], "lora", prompt="a man img in a red shirt", seed=7),
    ]


def test_all_kinds_together_equal_each_alone(pipeline, mixed):
    together = pipeline.latents(mixed)
    for made, each in zip(together, mixed, strict=True):
        torch.testing.assert_close(made, pipeline.latents([each])[0], atol=5e-5, rtol=1e-4)


def test_rows_with_and_without_an_image_prompt_share_a_call(pipeline, mixed):
    sampler, calls = pipeline.sampler(), []
    predict = sampler.predict
    sampler.predict = lambda noisy, *rest: calls.append(len(noisy)) or predict(noisy, *rest)
    for row in pipeline.prepare([mixed[0], mixed[1], mixed[2], mixed[3]]):  # two adapters, and the base
        sampler.add(row)
    sampler.step()
    assert calls == [4 + 3]  # guidance is off for one


def test_scale_zero_is_the_base_and_guidance_too(pipeline, photos):
    base = pipeline.latents([request(adapter="base")])[0]
    torch.testing.assert_close(pipeline.latents([request(photos[:2], scale=0.0)])[0], base)
    little, whole = pipeline.latents([request(photos[:2], scale=0.01), request(photos[:2])])
    assert 1e-3 < (little - base).abs().max() < (whole - base).abs().max()


def test_the_trigger_word_says_nothing_and_there_is_no_delay(pipeline, photos):
    plain = pipeline.latents([request(photos[:1])])[0]
    marked = request(photos[:1], prompt="a man img in a red shirt", merge_step=3)
    assert torch.equal(pipeline.latents([marked])[0], plain)


def test_tokens_of_photos_can_be_kept(pipeline, photos):
    references = pipeline.references(photos[:2], "linear")
    kept = pipeline.embed(references, "linear")
    assert kept.shape == (2, 3, 80)
    own = request([r.image for r in references])
    torch.testing.assert_close(pipeline.latents([request(id_embeds=kept)]), pipeline.latents([own]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": (1.0,)}, "takes no weights of photos.*set scale"),
        ({"scale": -1.0}, "scale=-1.0 must be 0 or more"),
        ({"scale": float("nan")}, "scale=nan must be 0 or more"),
        ({"adapter": "photomaker", "prompt": "a man img", "scale": 0.5}, "scale is for adapters with an image prompt"),
        ({"id_images": ()}, "ID image"),
    ],
)
def test_what_does_not_fit_is_refused(pipeline, photos, changes, message):
    with pytest.raises(RequestError, match=message):
        pipeline.check(request(photos[:1], **changes))


def test_an_adapter_of_another_base_is_refused(tiny_sd15, tiny_base, tmp_path):
    file = write_ip_adapter(tiny_base, tmp_path / "ip.safetensors")
    with pytest.raises(CheckpointError, match="trained on base"):
        PhotoMakerPipeline.from_pretrained(tiny_sd15, file, vision_path=str(tiny_base / "image_encoder"))
    with pytest.raises(CheckpointError, match="made for text features of width 80"):
        PhotoMakerPipeline.from_pretrained(
            tiny_sd15, file, vision_path=str(tiny_base / "image_encoder"), check_base=False
        )
