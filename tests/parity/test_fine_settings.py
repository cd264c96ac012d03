"""The finer settings mean what they mean in diffusers' own SDXL pipeline, on the same weights, without an identity."""

from dataclasses import replace

import diffusers
import pytest
import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline

from pm.errors import RequestError
from pm.sample import PhotoMakerPipeline, Request

STEPS = 6
PLAIN = Request("a man in a red shirt", seed=7, steps=STEPS, guidance=4.0, negative_prompt="a blue background")
SIZES = {"original_size": (512, 640), "target_size": (256, 300)}
NEGATIVE = {"negative_original_size": (300, 200), "negative_target_size": (64, 80)}
# Of `Request`, and diffusers' names where they differ.
CASES = {
    "plain": ({}, {}),
    "guidance_rescale": ({"guidance_rescale": 0.7}, {}),
    "clip_skip": ({"clip_skip": 1}, {}),
    "denoising_end": ({"denoising_end": 0.6}, {}),
    "timesteps": ({"timesteps": (999, 800, 420, 333, 50, 1)}, {}),
    "sigmas": ({"sigmas": (14.0, 9.0, 3.0, 1.5, 0.7, 0.1, 0.0)}, {}),
    "sizes": (SIZES | {"crop_corner": (3, 9)}, {"crops_coords_top_left": (3, 9)}),
    "negative_sizes": (NEGATIVE | {"negative_crop_corner": (5, 6)}, {"negative_crops_coords_top_left": (5, 6)}),
    "prompt_2": ({"prompt_2": "a woman in a green hat", "negative_prompt_2": "glasses"}, {}),
    "no_negative": ({"negative_prompt": None, "guidance_rescale": 0.3}, {}),
}


@pytest.fixture(scope="module")
def ours(tiny_base) -> PhotoMakerPipeline:
    return PhotoMakerPipeline.from_pretrained(tiny_base, schedule="euler")


@pytest.fixture(scope="module")
def theirs(tiny_base) -> StableDiffusionXLPipeline:
    pipe = StableDiffusionXLPipeline.from_pretrained(tiny_base, add_watermarker=False)
    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _asked(name):
    return replace(PLAIN, **CASES[name][0])


@pytest.mark.parametrize("name", CASES)
def test_latents_are_those_of_diffusers(name, ours, theirs):
    request, (fields, other) = _asked(name), CASES[name]
    named = {key: value for key, value in fields.items() if "corner" not in key and key != "negative_prompt"} | other
    named |= {key: list(value) for key, value in named.items() if key in ("timesteps", "sigmas")}
    if not {"timesteps", "sigmas"} & named.keys():
        named["num_inference_steps"] = STEPS
    else:
        named["num_inference_steps"] = None
    expected = theirs(
        request.prompt,
        negative_prompt=request.negative_prompt,
        guidance_scale=request.guidance,
        latents=torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(7)),
        output_type="latent",
        **named,
    ).images[0]
    found = ours.latents([request])[0]
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=1e-4)
    if name != "plain":
        assert (found - ours.latents([PLAIN])[0]).abs().max() > 1e-3


def test_rows_of_all_settings_share_a_batch(ours):
    requests = [_asked(name) for name in CASES]
    together = ours.latents(requests, batch_size=len(requests))
    for name, request, mixed in zip(CASES, requests, together, strict=True):
        torch.testing.assert_close(mixed, ours.latents([request])[0], atol=1e-3, rtol=1e-3, msg=name)


def test_ddim_takes_timesteps_too(tiny_base):
    """Diffusers' own DDIM takes none; at its own timesteps ours is the usual plan."""
    pipeline = PhotoMakerPipeline.from_pretrained(tiny_base, schedule="ddim")
    usual = pipeline.schedule.plan(STEPS)
    given = pipeline.schedule.custom(usual.timesteps.tolist())
    torch.testing.assert_close(given.table[:-1], usual.table[:-1])
    pipeline.latents([replace(PLAIN, timesteps=(999.0, 700.0, 30.0), steps=3)])
    with pytest.raises(RequestError, match="sigmas cannot be given with schedule=ddim; use euler"):
        pipeline.latents([_asked("sigmas")])


@pytest.mark.parametrize(
    ("scheduler", "name"),
    [
        ("DPMSolverMultistepScheduler", "timesteps"),
        ("LCMScheduler", "timesteps"),
        ("EulerDiscreteScheduler", "sigmas"),
    ],
)
def test_steps_of_ones_own_with_other_schedules(scheduler, name, ours, theirs):
    kind = getattr(diffusers, scheduler)
    before = theirs.scheduler
    ours.scheduler = theirs.scheduler = kind.from_config(before.config)
    given = {"timesteps": [939, 759, 499, 259, 39], "sigmas": [12.0, 5.0, 2.0, 0.5, 0.1, 0.0]}[name]
    request = replace(PLAIN, steps=5, **{name: tuple(given)})
    try:
        expected = theirs(
            request.prompt,
            negative_prompt=request.negative_prompt,
            num_inference_steps=None,
            guidance_scale=request.guidance,
            latents=torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(7)),
            generator=_after_noise(),
            output_type="latent",
            **{name: given},
        ).images[0]
        found = ours.latents([replace(request, generator=_after_noise(), noise=_noise())])[0]
    finally:
        ours.scheduler = theirs.scheduler = before
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=1e-3)


def _noise():
    return torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(7))


def _after_noise():
    return torch.Generator().manual_seed(8)
