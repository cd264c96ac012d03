"""Loading a base, telling bases apart, and what its frozen parts compute."""

import json
import shutil

import pytest
import torch

from pm.errors import CheckpointError
from pm.model.base import decode_latents, encode_images, encode_text, load_base, null_text
from pm.model.base_sizes import fingerprint
from pm.model.config import BaseConfig
from pm.model.prompt import tokenize


def test_sizes_come_from_the_configs_alone(tiny_base):
    base = load_base(tiny_base, parts=())
    assert (base.unet, base.vae, base.text_encoders) == (None, None, None)
    sizes = (base.resolution, base.latent_size, base.latent_channels, base.vae_scale_factor)
    assert sizes == (32, 8, 4, 4)
    assert (base.text_width, base.pooled_width, base.max_tokens) == (80, 48, 77)
    assert base.vision_path.endswith("image_encoder")


def test_parts_are_frozen_and_work_together(tiny_base):
    base = load_base(tiny_base)
    assert not any(p.requires_grad for m in (base.unet, base.vae, *base.text_encoders) for p in m.parameters())
    text = encode_text(base, tokenize(base.tokenizers, ["a man", "a woman in red"]))
    assert text.embeds.shape == (2, 77, 80) and text.pooled.shape == (2, 48)
    mean, logvar = encode_images(base, torch.rand(2, 3, 32, 32) * 2 - 1)
    assert mean.shape == logvar.shape == (2, 4, 8, 8)
    image = decode_latents(base, mean * base.scaling_factor)
    assert image.shape == (2, 3, 32, 32) and 0 <= image.min() <= image.max() <= 1


def test_null_text_is_zero_or_the_encoded_empty_prompt(tiny_base):
    base = load_base(tiny_base, parts=("text",))
    assert null_text(base, 2).embeds.abs().max() == 0
    base.zeros_for_empty_prompt = False
    empty = encode_text(base, tokenize(base.tokenizers, [""]))
    assert torch.equal(null_text(base, 2).embeds[1], empty.embeds[0])


def test_fingerprint_is_that_of_copies_and_of_nothing_else(tiny_base, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(tiny_base, copy)
    config = json.loads((copy / "unet" / "config.json").read_text())
    (copy / "unet" / "config.json").write_text(json.dumps(config | {"_diffusers_version": "0.99"}))
    assert fingerprint(BaseConfig(str(copy), "")) == fingerprint(BaseConfig(str(tiny_base), ""))
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert fingerprint(BaseConfig(str(copy), "")) != fingerprint(BaseConfig(str(tiny_base), ""))


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        ("unet/config.json", "unet/config.json is missing"),
        ("vae/diffusion_pytorch_model.safetensors", "no .safetensors file"),
        ("tokenizer_2", "tokenizer_2 cannot be loaded"),
        ("model_index.json", "model_index.json is missing"),
    ],
)
def test_incomplete_bases_are_refused_by_name(tiny_base, tmp_path, broken, says):
    copy = tmp_path / "copy"
    shutil.copytree(tiny_base, copy)
    target = copy / broken
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    with pytest.raises(CheckpointError, match=says) as caught:
        load_base(copy)
    assert "\n" not in str(caught.value)


def test_truncated_weights_are_refused(tiny_base, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(tiny_base, copy)
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match="is cut short"):
        load_base(copy, parts=("unet",))
    weights.write_bytes(b"\xff" * 100)
    with pytest.raises(CheckpointError, match="is not a safetensors file"):
        fingerprint(BaseConfig(str(copy), ""))


@pytest.mark.parametrize("path", ["/nowhere/at/all", "nobody/no-such-model", "just-a-name"])
def test_a_base_that_is_nowhere_is_refused(path):
    with pytest.raises(CheckpointError, match=path):
        load_base(path)


def test_half_precision_variant_is_found(tiny_base, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(tiny_base, copy)
    for file in copy.glob("*/*.safetensors"):
        file.rename(file.with_name(file.name.replace(".safetensors", ".fp16.safetensors")))
    base = load_base(copy, parts=("unet", "vae", "text"), dtype=torch.bfloat16)
    assert base.unet.dtype == torch.bfloat16
