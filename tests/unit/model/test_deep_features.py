"""The first level of a U-Net with deep features from outside is the U-Net, where those are of the same call."""

import functools
from dataclasses import replace

import pytest
import torch
from diffusers import UNet2DConditionModel

from pm.model.conditioning import Conditioning, TextFeatures
from pm.model.deep_features import DeepFeatures, can_keep
from pm.model.families.sd15 import StableDiffusion
from pm.model.families.sdxl import StableDiffusionXL

L, D, P = 5, 8, 8
XL = {
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 4,
    "projection_class_embeddings_input_dim": P + 6 * 4,
}
# As SDXL has it, without attention in the first level, and as Stable Diffusion 1.x has it, with.
KINDS = {
    "sdxl": (StableDiffusionXL, ("DownBlock2D", "CrossAttnDownBlock2D"), ("CrossAttnUpBlock2D", "UpBlock2D"), XL),
    "sd15": (StableDiffusion, ("CrossAttnDownBlock2D", "DownBlock2D"), ("UpBlock2D", "CrossAttnUpBlock2D"), {}),
}


@pytest.mark.parametrize("name", KINDS)
def test_first_level_with_deep_features_of_the_same_call_is_the_whole(name):
    family, down, up, own = KINDS[name]
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16),
        down_block_types=down,
        up_block_types=up,
        layers_per_block=2,
        norm_num_groups=4,
        cross_attention_dim=D,
        attention_head_dim=4,
        **own,
    )
    before = {key: id(value) for key, value in unet.named_modules()}
    deep = DeepFeatures(unet.eval(), functools.partial(family(name).predict, max_tokens=L))
    text = TextFeatures(torch.randn(3, L, D), torch.randn(3, P))
    told = Conditioning.from_text(text, torch.zeros(3, 6))
    x, t = torch.randn(3, 4, 8, 12), torch.tensor([3.0, 500.0, 900.0])
    calls = []
    unet.mid_block.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        plain = family(name).predict(unet, x, t, told, max_tokens=L)
        output, features = deep.whole(x, t, told)
        again = deep.first_level(x, t, told, features)
        # It sees the new latents and time, and of the text only what its own attention does.
        moved = deep.first_level(x + 1, t, told, features)
        other = deep.first_level(x, t, replace(told, embeds=told.embeds + 1), features)
    assert len(calls) == 2 and torch.equal(plain, output) and torch.equal(again, output)
    assert not torch.allclose(moved, output) and torch.equal(other, output) == (name == "sdxl")
    assert before == {key: id(value) for key, value in unet.named_modules()}


def test_what_has_one_level_cannot_keep():
    assert not can_keep(torch.nn.Linear(1, 1))
