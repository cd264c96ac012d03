"""Starting from a picture: what stays, sizes, masks of both conventions, and what is refused."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image
from support.pictures import clear_right, half, picture, write_inpainting

from pm.errors import RequestError
from pm.model.base import encode_images, load_base
from pm.sample.pictures import first_step, fitted, notes_of, picture_of
from pm.sample.pipeline import PhotoMakerPipeline
from pm.sample.request import Request

PROMPT = "a man img in a red shirt"


@pytest.fixture(scope="module")
def pipeline(tiny_base, adapter_files):
    return PhotoMakerPipeline.from_pretrained(tiny_base, adapter_files["one"])


def request(photos=(), **changes) -> Request:
    own = {"prompt": PROMPT} if photos else {"prompt": "a man", "adapter": "base"}
    return Request(**{"id_images": tuple(photos), "steps": 5, "seed": 3} | own | changes)


def test_what_the_mask_keeps_is_the_picture_and_the_rest_is_new(pipeline, photos):
    own = request(photos[:1], image=picture(2), mask_image=half())
    made = pipeline.latents([own])[0]
    pixels = torch.from_numpy(np.asarray(picture(2))).permute(2, 0, 1)[None] / 127.5 - 1
    mean, logvar = encode_images(pipeline.base, pixels)
    drawn = torch.randn(mean.shape, generator=torch.Generator().manual_seed(own.seed))
    kept = (mean + (logvar / 2).exp() * drawn)[0] * pipeline.base.scaling_factor
    torch.testing.assert_close(made[..., :4], kept[..., :4])
    assert (made - kept)[..., 4:].abs().max() > 0.1


def test_less_strength_is_nearer_to_the_picture_and_takes_fewer_steps(pipeline):
    def distance(strength: float) -> float:
        own = request(image=picture(2), strength=strength, steps=10)
        [row] = pipeline.prepare([own])
        sampler = pipeline.sampler()
        key = sampler.add(row)
        assert sampler.position(key) == (0, round(10 * strength))
        while sampler.step():
            pass
        return float((sampler.finished()[key] - row.start.picture).pow(2).mean())

    assert distance(0.1) < distance(0.4) < distance(1.0)


def test_one_step_is_always_done_unless_the_strength_says_otherwise(pipeline):
    assert pipeline.latents([request(image=picture(2), steps=1)])[0].shape == (4, 8, 8)
    assert [first_step(request(image=picture(), steps=steps)) for steps in (1, 2, 4, 10)] == [0, 1, 2, 4]


def test_both_ways_to_say_a_mask_and_outpainting(pipeline):
    white = request(image=picture(1), mask_image=half())
    clear = dataclasses.replace(white, mask_image=clear_right(picture(1)))
    wider = dataclasses.replace(white, mask_image=None, image=clear_right(picture(1)))
    for other in (clear, wider):
        assert np.array_equal(picture_of(other).mask, picture_of(white).mask)
    assert notes_of(wider, (32, 32)) == ["image has transparent parts: they are drawn anew, the rest stays"]
    torch.testing.assert_close(*pipeline.latents([white, clear]))


@pytest.mark.parametrize(
    ("given", "sides", "expected"),
    [
        ((32, 32), (None, None), (32, 32)),
        ((640, 640), (None, None), (32, 32)),
        ((64, 32), (None, None), (48, 24)),
        ((640, 32), (None, None), (64, 8)),
        ((64, 32), (32, None), (32, 16)),
        ((64, 32), (None, 32), (64, 32)),
        ((64, 32), (24, 40), (24, 40)),
    ],
)
def test_size_is_that_of_the_picture_unless_said(pipeline, given, sides, expected):
    own = request(image=picture(0, given), width=sides[0], height=sides[1])
    assert pipeline.size(own) == expected
    assert pipeline.generate([own])[0].size == expected
    assert bool(notes_of(own, expected)) == (given != expected)


def test_a_picture_is_never_stretched():
    image = Image.new("RGB", (60, 30))
    image.paste("white", (15, 0, 45, 30))  # the middle square
    found = fitted(picture_of(request(image=image, mask_image=half((60, 30)))), (20, 20))
    assert np.asarray(found.image).min() > 200
    assert np.array_equal(found.mask, half((20, 20)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mask_image": half()}, "mask_image is of the picture to change, and none is given"),
        ({"strength": 0.5}, "strength is of the picture to change"),
        ({"image": "me.png"}, "image is a str; give a Pillow image"),
        ({"image": picture(0, (4, 32))}, "image has 4 x 32 pixels; give 8 a side"),
        ({"image": picture(), "mask_image": 3}, "mask_image is a int"),
        ({"image": picture(), "strength": 1.5}, "strength=1.5 must be a number from 0 to 1"),
        ({"image": picture(), "strength": float("nan")}, "strength=nan must be"),
        ({"image": picture(), "strength": "a lot"}, "strength='a lot' must be"),
        ({"image": picture(), "strength": True}, "strength=True must be"),
        ({"image": picture(), "strength": 0}, "strength=0 of 5 steps is less than one step; use 0.2 or more"),
        ({"image": picture(), "strength": 0.19}, "use 0.2 or more"),
        ({"image": picture(), "mask_image": half((64, 32))}, "mask_image has 64 x 32 pixels, its image 32 x 32"),
        ({"image": picture(), "mask_image": Image.new("L", (32, 32))}, "black and opaque: nothing would be drawn"),
    ],
)
def test_what_cannot_be_is_refused(pipeline, changes, message):
    with pytest.raises(RequestError, match=message):
        pipeline.check(request(**changes))


def test_a_picture_that_is_cut_short_is_refused(pipeline, tmp_path):
    picture(0, (64, 64)).save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:200])
    with pytest.raises(RequestError, match="image cannot be read"):
        pipeline.check(request(image=Image.open(tmp_path / "a.png")))


def test_an_inpainting_base_is_known_by_its_channels(tiny_base, tmp_path):
    base = load_base(write_inpainting(tiny_base, tmp_path / "base"), ())
    assert (base.latent_channels, base.extra_channels) == (4, 5)
