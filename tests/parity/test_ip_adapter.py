"""An image prompt does to us what it does to diffusers' own IP-Adapter, from the same file."""

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DiffusionPipeline
from PIL import Image
from safetensors.torch import load_file
from support.sampling import write_ip_adapter
from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

from pm.model.adapter_file import strip
from pm.sample.pipeline import PhotoMakerPipeline
from pm.sample.request import Request

PROMPT = "a man in a red shirt"


def pictures(count):
    rng = np.random.default_rng(3)
    return [Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)) for _ in range(count)]


def theirs(base, file, tower):
    vision = CLIPVisionModelWithProjection.from_pretrained(tower)
    size = {"height": 32, "width": 32}
    processor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=size)
    pipeline = DiffusionPipeline.from_pretrained(base, image_encoder=vision, feature_extractor=processor)
    pipeline.watermark = None
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.load_ip_adapter(file.parent, subfolder="", weight_name=file.name, image_encoder_folder=None)
    return pipeline


CASES = [
    ("tiny_base", "linear", 1, 1.0, False),
    ("tiny_base", "linear", 3, 0.6, True),
    ("tiny_base", "resampler", 2, 0.8, False),
    ("tiny_sd15", "linear", 2, 0.8, True),
]


@pytest.mark.parametrize(("family", "projection", "photos", "scale", "pickled"), CASES)
def test_latents_are_those_of_diffusers(request, tiny_base, tmp_path, family, projection, photos, scale, pickled):
    base, tower = request.getfixturevalue(family), tiny_base / "image_encoder"
    path = tmp_path / "ip.safetensors"
    file = write_ip_adapter(base, path, projection=projection, tokens=4, vision=tower)
    if pickled:  # as published: no metadata, two dicts
        state = load_file(file)
        parts = {"image_proj": strip(state, "image_proj."), "ip_adapter": strip(state, "ip_adapter.")}
        file = tmp_path / "ip.bin"
        torch.save(parts, file)
    shown = pictures(photos)
    asked = Request(PROMPT, shown, seed=7, steps=5, guidance=4.0, negative_prompt=None, scale=scale)
    ours = PhotoMakerPipeline.from_pretrained(base, file, str(tower), schedule="ddim")
    plain = ours.latents([Request(PROMPT, seed=7, steps=5, guidance=4.0, adapter="base")])[0]
    made = ours.latents([asked])[0]
    other = theirs(base, file, tower)
    other.set_ip_adapter_scale(scale)
    expected = other(
        PROMPT,
        ip_adapter_image=[shown],
        num_inference_steps=asked.steps,
        guidance_scale=asked.guidance,
        latents=torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(asked.seed)),
        output_type="latent",
    ).images[0]
    assert (made - plain).abs().max() > 1e-2
    torch.testing.assert_close(made, expected, atol=1e-4, rtol=1e-4)
