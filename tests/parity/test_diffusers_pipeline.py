"""Without an adapter we are diffusers' own pipelines: text features, guidance, micro-conditioning, decoding."""

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DiffusionPipeline, EulerDiscreteScheduler

from pm.sample.pipeline import PhotoMakerPipeline
from pm.sample.request import Request


@pytest.mark.parametrize(("schedule", "kind"), [("ddim", DDIMScheduler), ("euler", EulerDiscreteScheduler)])
@pytest.mark.parametrize("negative", [None, "", "a blue background"])
@pytest.mark.parametrize("family", ["tiny_base", "tiny_sd15"])
def test_base_alone_draws_what_diffusers_draws(family, schedule, kind, negative, request):
    folder = request.getfixturevalue(family)
    request = Request("a man in a red shirt", seed=7, steps=6, guidance=4.0, negative_prompt=negative)
    ours = PhotoMakerPipeline.from_pretrained(folder, schedule=schedule).generate([request])[0]
    theirs = DiffusionPipeline.from_pretrained(folder)
    assert type(theirs).__name__ == {"tiny_base": "StableDiffusionXLPipeline"}.get(family, "StableDiffusionPipeline")
    theirs.watermark = None  # SDXL's, if the library for it is installed
    theirs.scheduler = kind.from_config(theirs.scheduler.config)
    theirs.set_progress_bar_config(disable=True)
    expected = theirs(
        request.prompt,
        negative_prompt=negative,
        num_inference_steps=request.steps,
        guidance_scale=request.guidance,
        latents=torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(request.seed)),
    ).images[0]
    difference = np.abs(np.asarray(ours, dtype=int) - np.asarray(expected, dtype=int))
    assert ours.size == expected.size == (32, 32)
    assert difference.max() <= 1
