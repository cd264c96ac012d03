"""Without an adapter, image to image and inpainting are diffusers' own pipelines on the same weights."""

import diffusers
import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler
from support.pictures import half, picture, write_inpainting

from pm.sample.pipeline import PhotoMakerPipeline
from pm.sample.request import Request

PROMPT, SEED = "a man in a red shirt", 7
SCHEDULERS = {"ddim": DDIMScheduler, "euler": EulerDiscreteScheduler}


@pytest.fixture(scope="module")
def bases(tiny_base, tiny_sd15, tmp_path_factory):
    folder = tmp_path_factory.mktemp("inpainting")
    return {
        "sdxl": tiny_base,
        "sd15": tiny_sd15,
        "sdxl-9": write_inpainting(tiny_base, folder / "sdxl"),
        "sd15-9": write_inpainting(tiny_sd15, folder / "sd15"),
    }


def both(folder, task, schedule, request, **arguments):
    """Our latents, and those of diffusers' pipeline for the task."""
    plain = diffusers.DiffusionPipeline.from_pretrained(folder)
    theirs = getattr(diffusers, type(plain).__name__.replace("Pipeline", f"{task}Pipeline")).from_pipe(plain)
    theirs.watermark = None
    theirs.scheduler = SCHEDULERS[schedule].from_config(theirs.scheduler.config)
    theirs.set_progress_bar_config(disable=True)
    expected = theirs(
        PROMPT,
        image=request.image,
        strength=request.strength,
        num_inference_steps=request.steps,
        guidance_scale=request.guidance,
        generator=torch.Generator().manual_seed(SEED),
        output_type="latent",
        **arguments,
    ).images[0]
    ours = PhotoMakerPipeline.from_pretrained(folder, schedule=schedule)
    return ours.latents([request])[0], expected


@pytest.mark.parametrize("schedule", SCHEDULERS)
@pytest.mark.parametrize("strength", [0.3, 0.75, 1.0])
@pytest.mark.parametrize("base", ["sdxl", "sd15"])
def test_image_to_image(bases, base, schedule, strength):
    request = Request(PROMPT, seed=SEED, steps=8, guidance=4.0, image=picture(), strength=strength)
    ours, expected = both(bases[base], "Img2Img", schedule, request)
    torch.testing.assert_close(ours, expected, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("schedule", SCHEDULERS)
@pytest.mark.parametrize("strength", [0.6, 1.0])
@pytest.mark.parametrize("base", ["sdxl", "sd15", "sdxl-9", "sd15-9"])
def test_inpainting(bases, base, schedule, strength):
    image, mask = picture(), half()
    request = Request(PROMPT, seed=SEED, steps=8, guidance=4.0, image=image, mask_image=mask, strength=strength)
    ours, expected = both(bases[base], "Inpaint", schedule, request, mask_image=mask, height=32, width=32)
    torch.testing.assert_close(ours, expected, atol=2e-4, rtol=1e-4)
