"""Calling the pipeline with the published names."""

import logging

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler, HeunDiscreteScheduler
from support.sampling import worst

from pm.errors import ConfigError, RequestError
from pm.sample import BASE, PhotoMakerPipeline, Request

MAN, WOMAN = "a man img in a red shirt", "a photo of a woman img, smiling"


@pytest.fixture(scope="module")
def pipe(tiny_base, adapter_files) -> PhotoMakerPipeline:
    pipe = PhotoMakerPipeline.from_pretrained(tiny_base, torch_dtype=torch.float32, use_safetensors=True).to("cpu")
    pipe.load_photomaker_adapter(adapter_files["one"].parent, weight_name=adapter_files["one"].name, trigger_word="img")
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _call(pipe, prompt, photos=None, negative=None, images=1, **kwargs):
    named = {"input_id_images": photos, "negative_prompt": negative, "num_images_per_prompt": images}
    named |= {"num_inference_steps": 3, "start_merge_step": 0, "seed": 5}
    return pipe(prompt, **named | kwargs).images


def test_a_list_of_prompts_with_a_list_of_photo_sets(pipe, photos):
    together = _call(
        pipe, [MAN, WOMAN], [photos[:1], photos[1:4]], ["a hat", None], 2, id_weights=[[1.0], [1.0, 0.5, 2.0]]
    )
    man = _call(pipe, MAN, photos[:1], "a hat", 2)
    woman = _call(pipe, WOMAN, photos[1:4], None, 2, id_weights=[1.0, 0.5, 2.0], seed=7)
    assert len(together) == 4
    assert max(worst(a, b) for a, b in zip(together, man + woman, strict=True)) <= 1
    shared = _call(pipe, [MAN, WOMAN], photos[:2])
    assert worst(shared[1], _call(pipe, WOMAN, photos[:2], seed=6)[0]) <= 1


def test_names_mean_what_they_say(pipe, photos):
    ours = pipe.generate([Request(MAN, photos[:2], seed=5, steps=3, guidance=4.0, merge_step=2)])[0]
    named = pipe(
        prompt=MAN,
        input_id_images=photos[:2],
        num_images_per_prompt=1,
        num_inference_steps=3,
        guidance_scale=4.0,
        start_merge_step=1,
        seed=5,
        height=32,
        width=32,
    ).images[0]
    assert worst(ours, named) == 0
    early = _call(pipe, MAN, photos[:2], start_merge_step=-1)[0]
    assert worst(early, pipe.generate([Request(MAN, photos[:2], seed=5, steps=3, merge_step=0)])[0]) == 0


def test_class_word_changes_age_and_gender(pipe, photos):
    for word, written in (("girl", "a girl img in a red shirt"), ("old woman", "a old woman img in a red shirt")):
        changed = _call(pipe, MAN, photos[:2], class_word=word)[0]
        assert worst(changed, _call(pipe, written, photos[:2])[0]) == 0
        assert worst(changed, _call(pipe, MAN, photos[:2])[0]) > 0


def test_weights_mix_two_people(pipe, photos):
    """Each photo's token moves from the class word (0) through itself (1) beyond; a photo of weight 0 is not seen."""

    def embeds(chosen, weights):
        (row,) = pipe.prepare([Request(MAN, chosen, weights=weights)])
        return row.conditioning.embeds

    none, half, full, twice = (embeds(photos[:2], [1.0, w]) for w in (0.0, 0.5, 1.0, 2.0))
    assert (full - none).abs().max() > 0.1
    for weight, mixed in ((0.5, half), (2.0, twice)):
        torch.testing.assert_close(mixed - none, weight * (full - none), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(embeds([photos[0], photos[3]], [1.0, 0.0]), none)
    named = [_call(pipe, MAN, photos[:2], id_weights=w, output_type="latent")[0] for w in ([1, 0], [0, 1])]
    assert (named[0] - named[1]).abs().max() > 0


def test_kinds_of_output(pipe, photos):
    pil = _call(pipe, MAN, photos[:1], None, 2)
    array = _call(pipe, MAN, photos[:1], None, 2, output_type="np")
    tensor = _call(pipe, MAN, photos[:1], None, 2, output_type="pt")
    latent = _call(pipe, MAN, photos[:1], None, 2, output_type="latent", return_dict=True)
    assert array.shape == (2, 32, 32, 3) and tensor.shape == (2, 3, 32, 32) and latent.shape == (2, 4, 8, 8)
    assert np.abs(array[1] * 255 - np.asarray(pil[1])).max() <= 0.51
    assert np.array_equal(tensor.permute(0, 2, 3, 1).numpy(), array)
    assert isinstance(pipe(MAN, input_id_images=photos[:1], num_inference_steps=1, return_dict=False), tuple)


def test_generators_draw_as_in_diffusers(pipe, photos):
    def drawn(seed):
        return torch.Generator().manual_seed(seed)

    one = _call(pipe, MAN, photos[:1], None, 2, seed=None, generator=drawn(3), output_type="latent")
    given = torch.randn(2, 4, 8, 8, generator=drawn(3))
    assert torch.equal(_call(pipe, MAN, photos[:1], None, 2, seed=None, latents=given, output_type="latent"), one)
    listed = _call(pipe, MAN, photos[:1], None, 2, seed=None, generator=[drawn(1), drawn(2)], output_type="latent")
    single = _call(pipe, MAN, photos[:1], seed=None, generator=drawn(2), output_type="latent")
    torch.testing.assert_close(listed[1:], single, atol=1e-4, rtol=1e-4)
    torch.manual_seed(3)
    assert torch.equal(_call(pipe, MAN, photos[:1], None, 2, seed=None, output_type="latent"), one)


def test_callbacks_see_every_step(pipe, photos):
    legacy, modern = [], []
    images = _call(
        pipe,
        MAN,
        photos[:1],
        None,
        2,
        callback=lambda step, t, latents: legacy.append((step, latents.shape)),
        callback_steps=2,
        callback_on_step_end=lambda p, step, t, kwargs: modern.append((p, step, t, kwargs["latents"])),
        output_type="latent",
    )
    assert legacy == [(0, (2, 4, 8, 8)), (2, (2, 4, 8, 8))]
    assert [(p, step) for p, step, *_ in modern] == [(pipe, 0), (pipe, 1), (pipe, 2)]
    assert [t for _, _, t, _ in modern] == pipe.schedule.plan(3, 0.0).timesteps.tolist()
    assert torch.equal(modern[-1][3], images)


def test_schedulers_of_diffusers_can_be_assigned(pipe):
    before = pipe.scheduler
    assert isinstance(before, DDIMScheduler)
    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    assert pipe.schedule.choice.name == "euler" and isinstance(pipe.scheduler, EulerDiscreteScheduler)
    pipe.scheduler = DPMSolverMultistepScheduler.from_config(before.config, algorithm_type="sde-dpmsolver++")
    assert pipe.schedule.choice.name == "dpmpp_2m_sde" and pipe.scheduler.config.algorithm_type == "sde-dpmsolver++"
    with pytest.raises(ConfigError, match="HeunDiscreteScheduler is not supported; use DDIMScheduler, DPMSolver"):
        pipe.scheduler = HeunDiscreteScheduler()
    pipe.scheduler = before
    assert pipe.schedule.choice.name == "ddim"


def test_any_word_may_be_the_class_word_but_is_asked_about(pipe, photos, caplog):
    with caplog.at_level(logging.WARNING):
        _call(pipe, MAN, photos[:1])
        assert caplog.records == []
        _call(pipe, "a robot img in a red shirt", photos[:1])
    assert "'robot' stands before 'img'" in caplog.text


@pytest.mark.parametrize(
    ("kwargs", "says"),
    [
        ({"output_type": "jpg"}, "output_type='jpg' is not one of pil, np, pt, latent"),
        ({"prompt": []}, "prompt is an empty list"),
        ({"prompt": [MAN, WOMAN], "input_id_images": [[1], [2], [3]]}, "photo 1 is a int"),
        ({"prompt": [MAN, WOMAN], "negative_prompt": ["a"]}, "negative_prompt has 1 entries for 2 prompts"),
        ({"prompt": "a man in a red shirt"}, "lacks the trigger word"),
        ({"input_id_images": None}, "0 ID images given; this adapter takes 1 to 4"),
        ({"input_id_images": []}, "0 ID images given"),
        ({"input_id_images": "nowhere.png"}, "nowhere.png cannot be read"),
        ({"id_weights": [1.0]}, "1 weights given for 2 ID images"),
        ({"num_images_per_prompt": 0}, "num_images_per_prompt=0"),
        ({"num_inference_steps": 0}, "steps=0"),
        ({"generator": torch.Generator()}, "seed is given beside generator"),
        ({"seed": None, "latents": torch.zeros(3, 4, 8, 8)}, "for 1 images"),
        ({"preprocess": "magic"}, "preprocess='magic' is not one of auto, none, photo, drawing"),
        ({"adapter": "nobody"}, "adapter 'nobody' is not loaded"),
        ({"width": 0}, "width=0 must be a multiple of 8"),
        ({"prompt": None}, "prompt must be a text or a list of texts"),
        ({"negative_prompt": 3}, "negative_prompt must be a text"),
        ({"negative_prompt": "(red:-2)"}, "weight -2 in prompt .*; put it into negative_prompt"),
        ({"input_id_images": ["a.png", ["b.png"]]}, "photos beside lists of photos"),
        ({"input_id_images": np.zeros((8, 8, 3))}, "photo 1 is a float64 array"),
        ({"id_weights": 0.5}, "id_weights=0.5 must be a number for each photo"),
        ({"num_inference_steps": 1.5}, "steps=1.5 must be a whole number"),
        ({"start_merge_step": None}, "start_merge_step=None must be a whole number"),
        ({"guidance_scale": None}, "guidance=None must be 0 or more"),
        ({"seed": "1"}, "seed='1' must be a whole number"),
        ({"seed": None, "generator": 3}, "a number is a seed"),
        ({"class_word": " "}, "class_word is empty"),
    ],
)
def test_what_cannot_be_called(pipe, photos, kwargs, says):
    with pytest.raises(RequestError, match=says) as caught:
        _call(pipe, **{"prompt": MAN, "input_id_images": photos[:2]} | kwargs)
    assert "\n" not in str(caught.value)


def test_base_alone(pipe):
    assert _call(pipe, "a man in a red shirt", adapter=BASE)[0].size == (32, 32)
