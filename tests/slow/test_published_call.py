"""The published interface, whole: every parameter of the two published calls works, or says what to use instead."""

import inspect
import logging

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from diffusers.callbacks import SDXLCFGCutoffCallback
from PIL import Image
from support.sampling import write_adapter

from pm.errors import RequestError
from pm.sample import BASE, PhotoMakerPipeline

MAN = "a man img in a red shirt"
# Of the calls of February 2024 and of July 2024.
_V1 = """prompt prompt_2 height width num_inference_steps denoising_end guidance_scale negative_prompt negative_prompt_2
num_images_per_prompt eta generator latents prompt_embeds negative_prompt_embeds pooled_prompt_embeds
negative_pooled_prompt_embeds output_type return_dict cross_attention_kwargs guidance_rescale original_size
crops_coords_top_left target_size callback callback_steps callback_on_step_end callback_on_step_end_tensor_inputs
input_id_images start_merge_step class_tokens_mask prompt_embeds_text_only pooled_prompt_embeds_text_only"""
V2 = [*_V1.split(), "timesteps", "sigmas", "ip_adapter_image", "ip_adapter_image_embeds", "negative_original_size"]
V2 += ["negative_crops_coords_top_left", "negative_target_size", "clip_skip", "id_embeds"]


@pytest.fixture(scope="module")
def photos() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (40, 32 + 4 * i, 3), dtype=np.uint8)) for i in range(2)]


@pytest.fixture(scope="module", params=["insert", "repeat"])
def pipe(request, tiny_base, tmp_path_factory) -> PhotoMakerPipeline:
    folder = tmp_path_factory.mktemp("adapter")
    write_adapter(tiny_base, folder / "photomaker-v1.safetensors", merge=request.param, seed=1)
    pipe = PhotoMakerPipeline.from_pretrained(tiny_base)
    pipe.load_photomaker_adapter(folder, weight_name="photomaker-v1.safetensors", trigger_word="img")
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def plain(tiny_base) -> PhotoMakerPipeline:
    pipe = PhotoMakerPipeline.from_pretrained(tiny_base, schedule="ddim")
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def theirs(tiny_base) -> StableDiffusionXLPipeline:
    pipe = StableDiffusionXLPipeline.from_pretrained(tiny_base, add_watermarker=False)
    pipe.scheduler = PhotoMakerPipeline.from_pretrained(tiny_base, schedule="ddim").scheduler
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _call(pipe, *args, **kwargs):
    usual = {"num_inference_steps": 3, "start_merge_step": 0, "seed": 5, "output_type": "latent"}
    return pipe(*args, **usual | kwargs).images


def _same(a, b):
    torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-4)


def test_every_published_parameter_is_known():
    known = inspect.signature(PhotoMakerPipeline.__call__).parameters
    assert set(V2) <= set(known)
    assert list(known)[:6] == ["self", "prompt", "prompt_2", "height", "width", "num_inference_steps"]


def test_the_first_five_go_by_place(pipe, photos):
    by_place = pipe(MAN, None, 32, 32, 2, input_id_images=photos[:1], seed=1, output_type="latent").images
    named = pipe(
        prompt=MAN, height=32, width=32, num_inference_steps=2, input_id_images=photos[:1], seed=1, output_type="latent"
    ).images
    assert torch.equal(by_place, named)


def test_features_of_the_prompt_can_be_given(pipe, photos):
    """`encode_prompt_with_trigger_word` and `encode_prompt` are the ways in; the picture stays what it is."""
    expected = _call(pipe, MAN, input_id_images=photos[:2], negative_prompt="a hat", clip_skip=1)
    embeds, negative, pooled, negative_pooled, mask = pipe.encode_prompt_with_trigger_word(
        MAN, negative_prompt="a hat", clip_skip=1, num_id_images=2
    )
    text, _, text_pooled, _ = pipe.encode_prompt("a man in a red shirt", clip_skip=1)
    given = {
        "prompt_embeds": embeds,
        "pooled_prompt_embeds": pooled,
        "negative_prompt_embeds": negative,
        "negative_pooled_prompt_embeds": negative_pooled,
        "class_tokens_mask": mask,
        "prompt_embeds_text_only": text,
        "pooled_prompt_embeds_text_only": text_pooled,
    }
    _same(_call(pipe, input_id_images=photos[:2], **given), expected)
    twice = {name: torch.cat([value, value]) for name, value in given.items()}
    both = _call(pipe, input_id_images=photos[:2], seed=None, generator=_generators(5, 5), **twice)
    torch.testing.assert_close(both, torch.cat([expected, expected]), atol=1e-4, rtol=1e-3)
    assert (_call(pipe, input_id_images=photos[:2], **given | {"prompt_embeds": -embeds}) - expected).abs().max() > 1e-3


def _generators(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def test_the_twin_alone_can_be_given(pipe, photos):
    text, _, pooled, _ = pipe.encode_prompt("a woman in a blue hat")
    twin = {"prompt_embeds_text_only": text, "pooled_prompt_embeds_text_only": pooled}
    late = {"input_id_images": photos[:1], "start_merge_step": 1}
    assert not torch.equal(_call(pipe, MAN, **late, **twin), _call(pipe, MAN, **late))
    never = {"input_id_images": photos[:1], "start_merge_step": 99, "adapter": None}
    _same(_call(pipe, MAN, **never, **twin), _call(pipe, "a woman img in a blue hat", **never))


def test_longer_features_than_the_tokenizers(plain, theirs):
    """As compel makes them of long prompts: 154 tokens."""
    torch.manual_seed(0)
    a, _, pooled, _ = plain.encode_prompt("a man in a red shirt")
    given = {"prompt_embeds": torch.cat([a, a.roll(3, 1)], 1), "pooled_prompt_embeds": pooled}
    noise = torch.randn(1, 4, 8, 8)
    same = {"num_inference_steps": 3, "output_type": "latent", "latents": noise, **given}
    _same(plain(**same, guidance_scale=4.0).images, theirs(**same, guidance_scale=4.0).images)


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0])
def test_guidance_is_off_from_one_down(plain, theirs, scale):
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    same = {"prompt": "a man", "num_inference_steps": 2, "output_type": "latent", "latents": noise}
    _same(plain(**same, guidance_scale=scale).images, theirs(**same, guidance_scale=scale).images)


def test_callbacks_change_latents_as_in_diffusers(plain, theirs):
    def halve(pipe, step, timestep, kwargs):
        return {"latents": kwargs["latents"] * 0.5} if step in (1, 3) else {}

    noise = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    same = {"prompt": "a man", "num_inference_steps": 4, "output_type": "latent", "latents": noise}
    same |= {"num_images_per_prompt": 2, "callback_on_step_end": halve}
    _same(plain(**same).images, theirs(**same).images)


def test_the_callbacks_of_diffusers_itself(plain, theirs):
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    same = {"prompt": "a man", "num_inference_steps": 4, "output_type": "latent", "latents": noise}
    same |= {"callback_on_step_end": SDXLCFGCutoffCallback(cutoff_step_ratio=0.5), "guidance_scale": 50.0}
    cut, whole = plain(**same).images, plain(**same | {"callback_on_step_end": None}).images
    apart = (cut - theirs(**same).images).abs().max()
    assert apart < 5e-4 and (cut - whole).abs().max() > 10 * apart


def test_interrupt_gives_what_there_is(plain, theirs):
    def stop(pipe, step, timestep, kwargs):
        pipe._interrupt = step == 1
        return kwargs

    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    same = {"prompt": "a man", "num_inference_steps": 4, "output_type": "latent", "latents": noise}
    same |= {"callback_on_step_end": stop}
    stopped = plain(**same).images
    _same(stopped, theirs(**same).images)
    assert plain.interrupt
    assert not torch.allclose(stopped, plain(**same | {"callback_on_step_end": None}).images, atol=1e-3)
    assert not plain.interrupt
    waiting = plain(**same | {"num_images_per_prompt": 3, "latents": noise.repeat(3, 1, 1, 1)}, batch_size=2).images
    assert torch.equal(waiting[2], noise[0]) and not torch.equal(waiting[1], noise[0])


def test_callbacks_change_what_is_said(pipe, photos):
    """Embeddings returned after the first step are those of the other prompt: the rest goes on with that."""
    names = [
        "prompt_embeds",
        "negative_prompt_embeds",
        "add_text_embeds",
        "add_time_ids",
        "negative_pooled_prompt_embeds",
        "prompt_embeds_text_only",
        "pooled_prompt_embeds_text_only",
        "negative_add_time_ids",
    ]
    seen = {}

    def keep(pipe, step, timestep, kwargs):
        seen[step] = kwargs

    def change(pipe, step, timestep, kwargs):
        assert set(kwargs) == {*names, "latents"}
        return {name: seen[step][name] for name in names}

    own = {
        "input_id_images": photos[:2],
        "start_merge_step": -1,
        "callback_on_step_end_tensor_inputs": [*names, "latents"],
    }
    other = {"negative_prompt": "a hat", "original_size": (9, 9)}
    _call(pipe, "a woman img in a blue hat", **own, **other, callback_on_step_end=keep)
    assert seen[0]["add_text_embeds"].shape[0] == seen[0]["add_time_ids"].shape[0] == 2
    changed = _call(pipe, MAN, **own, callback_on_step_end=change)
    first = _call(
        pipe,
        MAN,
        **own,
        callback_on_step_end=lambda p, step, t, k: {"latents": seen[0]["latents"]} if step == 0 else None,
    )
    assert not torch.allclose(changed, first, atol=1e-4)
    # From the same latents on, with everything else exchanged, it is the other picture.
    both = _call(
        pipe,
        MAN,
        **own,
        callback_on_step_end=lambda p, step, t, k: (
            {name: seen[0][name] for name in [*names, "latents"]} if step == 0 else {}
        ),
    )
    _same(both, _call(pipe, "a woman img in a blue hat", **own, **other))


def test_the_scale_of_all_loras(pipe, photos):
    """The adapter's own is the only one here; at 0 it is the plain U-Net with the identity's tokens."""
    own = {"input_id_images": photos[:1], "start_merge_step": -1}
    full, none = _call(pipe, MAN, **own), _call(pipe, MAN, **own, cross_attention_kwargs={"scale": 0.0})
    assert not torch.allclose(full, none, atol=1e-3)
    pipe.set_adapters(["photomaker"], adapter_weights=[0.0])
    _same(_call(pipe, MAN, **own), none)
    pipe.set_adapters(["photomaker"])
    pipe.fuse_lora(lora_scale=0.5)
    _same(_call(pipe, MAN, **own), _half(pipe, own))
    pipe.unfuse_lora()
    assert torch.equal(_call(pipe, MAN, **own), full)


def _half(pipe, own):
    pipe.unfuse_lora()
    found = _call(pipe, MAN, **own, cross_attention_kwargs={"scale": 0.5})
    pipe.fuse_lora(lora_scale=0.5)
    return found


@pytest.mark.parametrize(
    ("kwargs", "says"),
    [
        ({"prompt_2": [1]}, "prompt_2 must be a text or a list of texts; photos are given as input_id_images"),
        ({"prompt_2": "hat img"}, "'hat' is token 1 of prompt_2, and 'man' token 2 of the prompt"),
        ({"prompt_2": "no trigger"}, "prompt_2: .* lacks the trigger word"),
        ({"negative_prompt_2": "a hat"}, "negative_prompt_2 stands beside negative_prompt"),
        ({"num_steps": 3}, "unknown argument 'num_steps'"),
        ({"num_inference_step": 3}, "did you mean num_inference_steps"),
        ({"ip_adapter_image_embeds": 1}, "ip_adapter_image_embeds is not taken here; give the pictures"),
        ({"cross_attention_kwargs": {"gligen": 1}}, "can hold only {'scale'"),
        ({"guidance_rescale": 2}, "guidance_rescale=2 is out of range; use 0 to 1"),
        ({"guidance_rescale": float("nan")}, "guidance_rescale=nan"),
        ({"clip_skip": 99}, "clip_skip=99 is out of range; this base's text encoders allow 0 to"),
        ({"clip_skip": -1}, "clip_skip=-1 must be a whole number"),
        ({"clip_skip": 1.5}, "clip_skip=1.5 must be a whole number"),
        ({"denoising_end": 0}, "denoising_end=0 leaves no step"),
        ({"denoising_end": 1e-9}, "leaves no step of 3"),
        ({"timesteps": [1, 2, 3]}, "timesteps=.* must fall from step to step"),
        ({"timesteps": []}, "timesteps|steps=0"),
        ({"timesteps": [5000, 1]}, "timesteps start at 5000; this base knows 0 to 999"),
        ({"timesteps": [9, 1], "sigmas": [3, 0]}, "both timesteps and sigmas are given"),
        ({"original_size": 512}, r"original_size=512 must be height and width in pixels"),
        ({"target_size": (0, 10)}, r"target_size=\(0, 10\) must be height and width"),
        ({"class_tokens_mask": [True]}, "class_tokens_mask says where the class word is in prompt_embeds"),
        ({"prompt_embeds": torch.zeros(1, 77, 8)}, "both prompt and prompt_embeds are given"),
        ({"pooled_prompt_embeds": torch.zeros(1, 8)}, "pooled_prompt_embeds is given without prompt_embeds"),
        ({"negative_prompt_embeds": 3}, "negative_prompt_embeds must be a tensor"),
        ({"negative_prompt_embeds": torch.zeros(1, 77, 8)}, "without negative_pooled_prompt_embeds"),
        (
            {"negative_prompt_embeds": torch.zeros(1, 77, 8), "negative_pooled_prompt_embeds": torch.zeros(1, 8)},
            "negative_prompt_embeds has shape",
        ),
        ({"callback_on_step_end_tensor_inputs": ["noise"]}, "'noise' is not one of latents"),
        ({"callback_on_step_end": 3}, "callback_on_step_end=3 cannot be called"),
        ({"callback_on_step_end": lambda *a: 3}, "must return a dict of tensors or None"),
        ({"callback_on_step_end": lambda *a: {"latents": torch.zeros(1, 2)}}, r"latents \(1, 2\), not"),
        ({"callback_on_step_end": lambda *a: {"latent": torch.zeros(1)}}, "'latent', which is not one of"),
    ],
)
def test_what_is_refused_in_one_line(pipe, photos, kwargs, says):
    with pytest.raises(RequestError, match=says) as caught:
        _call(pipe, **{"prompt": MAN, "input_id_images": photos[:2]} | kwargs)
    assert "\n" not in str(caught.value)


def test_features_that_do_not_fit(pipe, photos):
    embeds, _, pooled, _, mask = pipe.encode_prompt_with_trigger_word(MAN, num_id_images=1)
    given = {"input_id_images": photos[:1], "prompt_embeds": embeds, "pooled_prompt_embeds": pooled}
    with pytest.raises(RequestError, match="class_tokens_mask marks 0 tokens where 1 ID images need 1"):
        _call(pipe, **given)
    with pytest.raises(RequestError, match="class_tokens_mask marks 2 tokens"):
        _call(pipe, **given, class_tokens_mask=mask | mask.roll(1))
    with pytest.raises(RequestError, match="or more tokens"):
        _call(pipe, **given | {"prompt_embeds": embeds[:, :50]}, class_tokens_mask=mask)


def test_parts_and_settings_that_scripts_read(pipe, photos):
    tokenizer = pipe.tokenizer
    ids, word = tokenizer.encode(MAN), tokenizer.convert_tokens_to_ids(pipe.trigger_word)
    assert ids.count(word) == 1 and word not in tokenizer.encode("a man in a red shirt")
    assert pipe.base.tokenizers[0].convert_tokens_to_ids("img") != word
    assert pipe.components["vae"] is pipe.vae and pipe.text_encoder_2 is pipe.base.text_encoders[1]
    _call(pipe, MAN, input_id_images=photos[:1], guidance_scale=3.0, clip_skip=1)
    assert (pipe.guidance_scale, pipe.clip_skip, pipe.num_timesteps, pipe.interrupt) == (3.0, 1, 3, False)
    assert pipe.do_classifier_free_guidance


def test_base_alone_takes_features(plain):
    embeds, negative, pooled, negative_pooled = plain.encode_prompt("a man", negative_prompt="a hat")
    given = {"prompt_embeds": embeds, "pooled_prompt_embeds": pooled, "negative_prompt_embeds": negative}
    found = _call(plain, **given, negative_pooled_prompt_embeds=negative_pooled, adapter=BASE)
    _same(found, _call(plain, "a man", negative_prompt="a hat"))


def test_prompt_2_with_an_identity(pipe, photos, caplog):
    own = {"input_id_images": photos[:1]}
    with caplog.at_level(logging.WARNING):
        other = _call(pipe, MAN, prompt_2="a man img in a blue hat", **own)
    assert not torch.allclose(other, _call(pipe, MAN, **own), atol=1e-4)
    _same(_call(pipe, MAN, prompt_2=MAN, **own), _call(pipe, MAN, **own))
