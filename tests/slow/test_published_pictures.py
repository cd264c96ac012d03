"""Pictures by the published interface's call: the names and the random numbers are those of diffusers."""

import diffusers
import numpy as np
import pytest
import torch
from support.pictures import half, picture, write_controlnet
from support.sampling import write_ip_adapter

from pm.errors import RequestError
from pm.sample.pipeline import PhotoMakerPipeline

PROMPT = "a man in a red shirt"


@pytest.fixture(scope="module")
def pipeline(tiny_base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    pipeline = PhotoMakerPipeline.from_pretrained(tiny_base, schedule="ddim")
    pipeline.load_control(write_controlnet(tiny_base, folder / "net"), "pose")
    pipeline.load_image_prompt(write_ip_adapter(tiny_base, folder / "ip.safetensors"), "ip")
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def call(pipeline, seed=5, **arguments):
    settings = {"num_inference_steps": 5, "guidance_scale": 4.0, "output_type": "latent", "adapter": "base"}
    return pipeline(PROMPT, generator=torch.Generator().manual_seed(seed), **settings | arguments).images


def test_a_call_with_a_generator_is_diffusers_own(pipeline, tiny_base):
    plain = diffusers.DiffusionPipeline.from_pretrained(tiny_base)
    theirs = diffusers.StableDiffusionXLInpaintPipeline.from_pipe(plain)
    theirs.watermark = None
    theirs.set_progress_bar_config(disable=True)
    arguments = {"image": picture(1), "mask_image": half(), "strength": 0.7}
    expected = theirs(
        PROMPT,
        **arguments,
        height=32,
        width=32,
        num_inference_steps=5,
        guidance_scale=4.0,
        generator=torch.Generator().manual_seed(5),
        output_type="latent",
    ).images
    torch.testing.assert_close(call(pipeline, **arguments), expected, atol=2e-4, rtol=1e-4)


def test_controls_and_a_style(pipeline):
    plain = call(pipeline)
    one = call(pipeline, control_image=picture(1), controlnet_conditioning_scale=0.8)
    named = call(pipeline, control_image={"pose": np.asarray(picture(1))}, controlnet_conditioning_scale=[0.8])
    style = call(pipeline, ip_adapter_image=[picture(2)], ip_adapter_scale=0.5)
    torch.testing.assert_close(one, named)
    assert (one - plain).abs().max() > 1e-3 and (style - plain).abs().max() > 1e-3


def test_several_images_of_one_generator_differ(pipeline):
    made = call(pipeline, image=picture(1), strength=0.6, num_images_per_prompt=2)
    assert made.shape == (2, 4, 8, 8) and (made[0] - made[1]).abs().max() > 1e-2


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"picture": 1}, RequestError, "unknown argument 'picture'"),
        ({"strength": 0.5}, RequestError, "strength is of the picture to change"),
        ({"image": "nowhere.png"}, RequestError, "image=nowhere.png does not exist"),
        ({"image": 3}, RequestError, "image is a int; give a Pillow image"),
        ({"control_image": [picture(), picture()]}, RequestError, "2 control_image given for 1 controls"),
        ({"control_image": {"depth": picture()}}, RequestError, "control 'depth' is not loaded"),
        ({"control_image": picture(), "control_guidance_start": [0, 1]}, RequestError, "has 2 values for 1"),
    ],
)
def test_what_cannot_be_is_refused(pipeline, arguments, error, message):
    with pytest.raises(error, match=message):
        call(pipeline, **arguments)
