"""Rows with and without control and image prompts, of all kinds, in one batch."""

import pytest
import torch
from support.pictures import half, picture, write_controlnet, write_t2i_adapter
from support.sampling import write_adapter, write_ip_adapter

from pm.model.offload import Offloader
from pm.sample.controls import ControlImage
from pm.sample.pictures import PromptImages
from pm.sample.pipeline import PhotoMakerPipeline
from pm.sample.request import Request

PHOTOS = [picture(10 + i) for i in range(4)]


@pytest.fixture(scope="module")
def pipeline(tiny_base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("controls")
    pipeline = PhotoMakerPipeline.from_pretrained(tiny_base, write_adapter(tiny_base, folder / "a.safetensors", seed=1))
    for i in range(2):
        pipeline.load_control(write_controlnet(tiny_base, folder / f"net{i}", seed=i), f"net{i}")
    pipeline.load_control(write_t2i_adapter(tiny_base, folder / "t2i", grey=True), "t2i")
    pipeline.load_image_prompt(write_ip_adapter(tiny_base, folder / "ip.safetensors"), "ip")
    return pipeline


def request(photos=(), **changes) -> Request:
    own = {"prompt": "a man img in a red shirt"} if photos else {"prompt": "a man", "adapter": "base"}
    return Request(**{"id_images": tuple(photos), "steps": 5, "seed": 3, "merge_step": 1} | own | changes)


def net(name: str = "net0", number: int = 1, **changes) -> ControlImage:
    return ControlImage(name=name, image=picture(number), **changes)


def mixed() -> list[Request]:
    style = PromptImages([picture(20), picture(21)], 0.7)
    return [
        request(PHOTOS[:1]),
        request(PHOTOS[:4], controls=[net()]),  # longer than the text: its padding must not reach other rows
        request(PHOTOS[:2], controls=[net(number=2, scale=0.4, end=0.6), net("net1", 3), net(number=4)], guidance=1.0),
        request(controls=[net("t2i", 5)], steps=7),
        request(PHOTOS[:1], controls=[net("t2i", 6, start=0.4)], image_prompt=style, image=picture(7)),
        request(PHOTOS[:3], image_prompt=style, merge_step=3),
        request(image_prompt=style, controls=[net("net1", preprocess="canny")], image=picture(8), mask_image=half()),
    ]


def test_all_together_equal_each_alone(pipeline):
    for made, each in zip(pipeline.latents(mixed()), mixed(), strict=True):
        torch.testing.assert_close(made, pipeline.latents([each])[0], atol=2e-5, rtol=1e-4)


def test_one_call_of_each_network_for_the_rows_that_want_it(pipeline):
    sampler, calls = pipeline.sampler(), []
    hooks = []
    for name in ("net0", "net1"):
        seen = lambda _, given, name=name: calls.append((name, len(given[0])))  # noqa: E731
        hooks.append(pipeline.control(name).module.register_forward_pre_hook(seen))
    predict = sampler.predict
    sampler.predict = lambda noisy, *rest: calls.append(("unet", len(noisy))) or predict(noisy, *rest)
    for row in pipeline.prepare(mixed()[:4]):
        sampler.add(row)
    sampler.step()
    # Two images of the third row, which has no guidance; both halves of the second. The base is a call of its own.
    assert sorted(calls) == [("net0", 4), ("net1", 1), ("unet", 2), ("unet", 5)]
    for hook in hooks:
        hook.remove()


def test_an_image_prompt_acts_from_the_first_step_and_the_identity_from_its_own(pipeline):
    style = PromptImages([picture(20)])
    never, early = (request(PHOTOS[:1], merge_step=step) for step in (5, 1))
    styled = [Request(**vars(each) | {"image_prompt": style}) for each in (never, early)]
    made = pipeline.latents([never, *styled])
    assert (made[1] - made[0]).abs().max() > 1e-2  # also where the identity never acts
    assert (made[2] - made[1]).abs().max() > 1e-4


def test_a_control_that_is_loaded_while_weights_are_offloaded_is_offloaded_too(tiny_base, tmp_path):
    pipeline, plain = PhotoMakerPipeline.from_pretrained(tiny_base), PhotoMakerPipeline.from_pretrained(tiny_base)
    pipeline._start_offload(Offloader(torch.device("cpu"), "model"))
    file = write_controlnet(tiny_base, tmp_path / "net")
    for each in (pipeline, plain):
        each.load_control(file, "net0")
    visits = []
    for own in (request(), request(controls=[net()])):
        before = pipeline._offloader.visits
        torch.testing.assert_close(pipeline.latents([own]), plain.latents([own]))
        visits.append(pipeline._offloader.visits - before)
    assert visits[1] - visits[0] >= 5  # one for each step


def test_scale_zero_and_a_window_without_steps_change_nothing(pipeline):
    plain = request(PHOTOS[:1])
    off = [net(scale=0), net("t2i", scale=0.0), net(start=0.9, end=0.95)]
    style = PromptImages([picture(20)], 0.0)
    made = pipeline.latents([plain, request(PHOTOS[:1], controls=off), request(PHOTOS[:1], image_prompt=style)])
    for other in made[1:]:
        torch.testing.assert_close(other, made[0], atol=1e-5, rtol=1e-4)
