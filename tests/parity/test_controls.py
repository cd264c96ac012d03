"""Without an adapter, control is that of diffusers' own pipelines on the same weights."""

import diffusers
import pytest
import torch
from diffusers import ControlNetModel, DDIMScheduler, MultiAdapter, T2IAdapter
from support.pictures import picture, write_controlnet, write_t2i_adapter

from pm.sample.controls import ControlImage
from pm.sample.pipeline import PhotoMakerPipeline
from pm.sample.request import Request

PROMPT, SEED, STEPS = "a man in a red shirt", 7, 6


@pytest.fixture(scope="module")
def files(tiny_base, tiny_sd15, tmp_path_factory):
    folder = tmp_path_factory.mktemp("controls")
    return {
        family: {
            **{f"net{i}": write_controlnet(base, folder / f"{family}-net{i}", seed=i) for i in range(2)},
            **{f"t2i{i}": write_t2i_adapter(base, folder / f"{family}-t2i{i}", seed=i) for i in range(2)},
        }
        for family, base in (("tiny_base", tiny_base), ("tiny_sd15", tiny_sd15))
    }


def theirs(folder, task, **parts):
    plain = diffusers.DiffusionPipeline.from_pretrained(folder)
    name = type(plain).__name__.replace("Pipeline", f"{task}Pipeline")
    pipeline = getattr(diffusers, name).from_pipe(plain, **parts)
    pipeline.watermark = None
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def called(pipeline, **arguments):
    settings = {"num_inference_steps": STEPS, "guidance_scale": 4.0, "output_type": "latent"}
    return pipeline(PROMPT, generator=torch.Generator().manual_seed(SEED), **settings, **arguments).images[0]


def ours(folder, files, controls, **changes):
    pipeline = PhotoMakerPipeline.from_pretrained(folder, schedule="ddim")
    for name, file in files.items():
        pipeline.load_control(file, name)
    request = Request(PROMPT, seed=SEED, steps=STEPS, guidance=4.0, **changes)
    plain, made = pipeline.latents([request, Request(**vars(request) | {"controls": controls})])
    assert (made - plain).abs().max() > 1e-2
    return made


@pytest.mark.parametrize("family", ["tiny_base", "tiny_sd15"])
def test_one_controlnet(request, files, family):
    folder, own = request.getfixturevalue(family), files[family]
    net = theirs(folder, "ControlNet", controlnet=ControlNetModel.from_pretrained(own["net0"]))
    window = {"control_guidance_start": 0.2, "control_guidance_end": 0.7}
    expected = called(net, image=picture(1), controlnet_conditioning_scale=0.7, **window)
    control = ControlImage(name="net0", image=picture(1), scale=0.7, start=0.2, end=0.7)
    torch.testing.assert_close(ours(folder, own, [control]), expected, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("family", ["tiny_base", "tiny_sd15"])
def test_several_controlnets(request, files, family):
    folder, own = request.getfixturevalue(family), files[family]
    nets = [ControlNetModel.from_pretrained(own[name]) for name in ("net0", "net1")]
    expected = called(
        theirs(folder, "ControlNet", controlnet=nets),
        image=[picture(1), picture(2)],
        controlnet_conditioning_scale=[0.5, 1.2],
        control_guidance_start=[0.0, 0.3],
        control_guidance_end=[0.8, 1.0],
    )
    controls = [
        ControlImage(name="net0", image=picture(1), scale=0.5, end=0.8),
        ControlImage(name="net1", image=picture(2), scale=1.2, start=0.3),
    ]
    torch.testing.assert_close(ours(folder, own, controls), expected, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("family", ["tiny_base", "tiny_sd15"])
def test_t2i_adapters(request, files, family):
    folder, own = request.getfixturevalue(family), files[family]
    one = theirs(folder, "Adapter", adapter=T2IAdapter.from_pretrained(own["t2i0"]))
    expected = called(one, image=picture(1), adapter_conditioning_scale=0.8, **_factor(one, 0.5))
    end = 0.5 if _factor(one, 0.5) else 1.0
    control = ControlImage(name="t2i0", image=picture(1), scale=0.8, end=end)
    torch.testing.assert_close(ours(folder, own, [control]), expected, atol=2e-4, rtol=1e-4)
    both = MultiAdapter([T2IAdapter.from_pretrained(own[name]) for name in ("t2i0", "t2i1")])
    several = theirs(folder, "Adapter", adapter=both)
    expected = called(several, image=[picture(1), picture(2)], adapter_conditioning_scale=[0.8, 0.4])
    controls = [
        ControlImage(name="t2i0", image=picture(1), scale=0.8),
        ControlImage(name="t2i1", image=picture(2), scale=0.4),
    ]
    torch.testing.assert_close(ours(folder, own, controls), expected, atol=2e-4, rtol=1e-4)


def _factor(pipeline, value):
    """Only SDXL's pipeline can stop an adapter early."""
    return {"adapter_conditioning_factor": value} if "XL" in type(pipeline).__name__ else {}


def test_a_controlnet_on_the_way_from_a_picture(tiny_base, files):
    own = files["tiny_base"]
    net = theirs(tiny_base, "ControlNetImg2Img", controlnet=ControlNetModel.from_pretrained(own["net0"]))
    window = {"control_guidance_start": 0.3, "control_guidance_end": 0.9}
    pictures = {"image": picture(3), "control_image": picture(1)}
    expected = called(net, strength=0.7, controlnet_conditioning_scale=0.9, **pictures, **window)
    control = ControlImage(name="net0", image=picture(1), scale=0.9, start=0.3, end=0.9)
    made = ours(tiny_base, own, [control], image=picture(3), strength=0.7)
    torch.testing.assert_close(made, expected, atol=2e-4, rtol=1e-4)
