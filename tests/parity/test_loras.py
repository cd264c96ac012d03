"""LoRA files do here what `load_lora_weights` makes them do in diffusers, and what PEFT makes of LoHa and LoKr."""

import json

import pytest
import torch
from diffusers import DDIMScheduler, DiffusionPipeline
from peft import LoHaConfig, LoKrConfig, get_peft_model
from support.loras import ATTENTION, EVERYTHING, FORMS, TEXT, as_kohya, as_peft, random_pairs, write

from pm.model.base import load_base
from pm.model.loras.file import read_lora
from pm.model.loras.layers import BaseLayers
from pm.sample.pipeline import PhotoMakerPipeline
from pm.sample.request import Request

PROMPT = "a man in a red shirt"


def theirs(folder, loras: dict, *, negative=None, steps=4):
    """diffusers' latents [C, h, w], with LoRA files and their weights."""
    pipeline = DiffusionPipeline.from_pretrained(folder)
    pipeline.watermark = None
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    for i, file in enumerate(loras):
        pipeline.load_lora_weights(str(file.parent), weight_name=file.name, adapter_name=f"lora{i}")
    if loras:
        pipeline.set_adapters([f"lora{i}" for i in range(len(loras))], list(loras.values()))
    return pipeline(
        PROMPT,
        negative_prompt=negative,
        num_inference_steps=steps,
        guidance_scale=4.0,
        latents=torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(7)),
        output_type="latent",
    ).images[0]


def ours(folder, loras: dict, *, negative=None, steps=4):
    pipeline = PhotoMakerPipeline.from_pretrained(folder, schedule="ddim")
    names = {pipeline.load_lora(file): strength for file, strength in loras.items()}
    request = Request(PROMPT, seed=7, steps=steps, guidance=4.0, negative_prompt=negative, loras=names)
    return pipeline.latents([request])[0]


def assert_same(folder, loras, otherwise=None, **settings):
    """`otherwise`: what diffusers reads instead."""
    found, plain = ours(folder, loras, **settings), ours(folder, {}, **settings)
    expected = theirs(folder, otherwise or loras, **settings)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert (found - plain).abs().max() > 0.05  # it does something


@pytest.mark.parametrize("form", FORMS)
def test_sdxl_files_of_every_form(tiny_base, tmp_path, form):
    one_alpha = 3.0 if form in ("kohya", "stability") else None
    pairs = random_pairs(load_base(tiny_base), mixed=True, alpha=one_alpha, unet=ATTENTION, text=TEXT)
    assert_same(tiny_base, {write(tmp_path / f"{form}.safetensors", FORMS[form](pairs)): 0.7}, negative="a hat")


@pytest.mark.parametrize("form", ["peft", "kohya", "stability"])
def test_convolutions_and_all_other_layers(tiny_base, tmp_path, form):
    pairs = random_pairs(load_base(tiny_base), alpha=2.0, strength=0.2, unet=EVERYTHING)
    assert_same(tiny_base, {write(tmp_path / f"{form}.safetensors", FORMS[form](pairs)): 0.8})


@pytest.mark.parametrize("form", ["kohya", "stability"])
def test_alphas_that_differ_between_layers(tiny_base, tmp_path, form):
    """diffusers 0.42 warns and takes the most frequent for all; with the alphas multiplied out it reads the same."""
    pairs = random_pairs(load_base(tiny_base), mixed=True, text=TEXT)
    file = write(tmp_path / "alphas.safetensors", FORMS[form](pairs))
    multiplied = write(tmp_path / "multiplied.safetensors", as_peft(pairs))
    assert_same(tiny_base, {file: 0.7}, otherwise={multiplied: 0.7})


@pytest.mark.parametrize("form", ["peft", "kohya"])
def test_one_text_encoder(tiny_sd15, tmp_path, form):
    pairs = random_pairs(load_base(tiny_sd15), unet=ATTENTION, text=TEXT)
    state = FORMS[form](pairs)
    state = {key.replace("lora_te1_", "lora_te_"): value for key, value in state.items()}
    assert_same(tiny_sd15, {write(tmp_path / f"{form}.safetensors", state): 1.0})


def test_two_at_once_of_different_forms(tiny_base, tmp_path):
    base = load_base(tiny_base)
    one = write(tmp_path / "one.safetensors", as_peft(random_pairs(base, 1, text=TEXT)))
    two = write(tmp_path / "two.safetensors", as_kohya(random_pairs(base, 2, rank=6, alpha=3.0)))
    assert_same(tiny_base, {one: 0.8, two: -0.4}, negative="")


@pytest.mark.parametrize("rooted", [False, True])
def test_alphas_in_the_metadata(tiny_base, tmp_path, rooted):
    """As diffusers' training scripts write them beside PEFT's weights."""
    pairs = random_pairs(load_base(tiny_base))
    layer = next(name for _, name in pairs)
    settings = {"r": 4, "lora_alpha": 2, "alpha_pattern": {layer: 7}, "use_rslora": rooted, "target_modules": []}
    settings["target_modules"] = [name for _, name in pairs]
    metadata = {"lora_adapter_metadata": json.dumps({f"unet.{k}": v for k, v in settings.items()})}
    assert_same(tiny_base, {write(tmp_path / "alpha.safetensors", as_peft(pairs), metadata): 1.0})


@pytest.mark.parametrize("kind", [LoHaConfig, LoKrConfig])
@pytest.mark.parametrize("effective", [False, True])
@pytest.mark.parametrize("rank", [2, 64])
def test_hadamard_and_kronecker_are_pefts(tiny_base, tmp_path, kind, effective, rank):
    base = load_base(tiny_base)
    config = kind(
        r=rank,
        alpha=3,
        target_modules=r".*(to_q|to_k|to_out\.0|ff\.net\.0\.proj|conv1)",
        use_effective_conv2d=effective,
        init_weights=False,
    )
    torch.manual_seed(0)
    model = get_peft_model(base.unet, config)
    model.save_pretrained(tmp_path)
    expected = {
        name.removeprefix("base_model.model."): module.get_delta_weight("default").detach()
        for name, module in model.named_modules()
        if hasattr(module, "get_delta_weight")
    }
    lora = read_lora(tmp_path / "adapter_model.safetensors", BaseLayers(load_base(tiny_base)))
    assert lora.unet.layers.keys() == expected.keys()
    for name, change in lora.unet.layers.items():
        torch.testing.assert_close(change.delta(), expected[name], atol=1e-5, rtol=1e-4)
