"""What LoRA files mean: layers by every name, changes in every form, and what is no LoRA for this base."""

import copy

import pytest
import torch
from diffusers import UNet2DConditionModel
from support.loras import EVERYTHING, FORMS, TEXT, as_kohya, as_peft, random_pairs, write
from torch import nn

from pm.errors import CheckpointError
from pm.model.base import load_base
from pm.model.loras.beside import LoraSet, RowLoras, added, added_to_all, side_by_side
from pm.model.loras.change import Bias, Dense, Kronecker, LowRank
from pm.model.loras.file import PartChange, read_lora
from pm.model.loras.layers import BaseLayers


@pytest.fixture(scope="module")
def base(tiny_base):
    return load_base(tiny_base)


@pytest.fixture(scope="module")
def layers(base) -> BaseLayers:
    return BaseLayers(base)


def random_change(kind: str, seed: int = 0, kernel: tuple[int, ...] = ()):
    """Of a layer from 6 to 4 channels."""
    g = torch.Generator().manual_seed(seed)

    def rand(*shape):
        return torch.randn(*shape, generator=g)

    return {
        "low": lambda: LowRank(rand(3, 6, *kernel), rand(4, 3)),
        "kronecker": lambda: Kronecker(rand(2, 3), rand(2, 2, *kernel)),
        "dense": lambda: Dense(rand(4, 6, *kernel)),
        "bias": lambda: Bias(LowRank(rand(3, 6, *kernel), rand(4, 3)), torch.zeros(4)),
    }[kind]()


@pytest.mark.parametrize("kind", ["low", "kronecker", "dense", "bias"])
@pytest.mark.parametrize("conv", [False, True])
@pytest.mark.parametrize("alike", [False, True])
def test_rows_of_a_call_get_their_own_changes(kind, conv, alike):
    """A layer with changes beside it equals, row by row, layers whose weights are changed."""
    torch.manual_seed(0)
    layer = nn.Conv2d(6, 4, 3, stride=2, padding=1) if conv else nn.Linear(6, 4)
    kernel = (3, 3) if conv else ()
    one, two = (PartChange({"0": random_change(name, seed, kernel)}) for name, seed in ((kind, 1), ("low", 2)))
    both, first = LoraSet((one, two)), LoraSet((one,))
    rows = [RowLoras(both, (0.5, -2.0)), None, RowLoras(first, (1.5,)), RowLoras(both, (0.0, 1.0)), None]
    if alike:  # strengths that rows share are multiplied into the weights
        rows[3] = rows[0]
    assert side_by_side(rows) == [1, 4, 0, 3, 2]
    x = torch.randn(5, 6, 8, 8) if conv else torch.randn(5, 7, 6)
    module = nn.Sequential(layer)
    with torch.no_grad():
        with added(module, rows):
            found = module(x)
        for i, row in enumerate(rows):
            changed = copy.deepcopy(layer)
            for part, strength in zip(*((row.together.parts, row.strengths) if row else ((), ())), strict=True):
                changed.weight += strength * part.layers["0"].delta()
            torch.testing.assert_close(found[i], changed(x[i : i + 1])[0], atol=1e-5, rtol=1e-4)
        with added_to_all(module, rows[0]):
            torch.testing.assert_close(module(x)[0], found[0], atol=1e-5, rtol=1e-4)
        assert torch.equal(module(x), layer(x))  # and nothing stays behind


def test_a_bias_follows_its_strength():
    layer, bias = nn.Sequential(nn.Linear(6, 4)), torch.tensor([1.0, 2.0, 3.0, 4.0])
    change = PartChange({"0": Bias(Dense(torch.zeros(4, 6)), bias)})
    x = torch.randn(2, 6)
    with torch.no_grad(), added(layer, [RowLoras(LoraSet((change,)), (s,)) for s in (0.5, -1.0)]):
        torch.testing.assert_close(layer(x) - layer[0].weight.mv(x[0]) * 0, layer(x))
        gained = layer(x) - torch.nn.functional.linear(x, layer[0].weight, layer[0].bias)
    torch.testing.assert_close(gained, torch.stack([bias * 0.5, -bias]))


def test_a_compiled_module_is_not_asked(base):
    """Code that was compiled before a LoRA came would not know of it."""
    module = nn.Sequential(nn.Linear(6, 4))
    module._compiled_call_impl = lambda x: torch.zeros(1)  # as `Module.compile` leaves it
    row = RowLoras(LoraSet((PartChange({"0": random_change("low")}),)), (1.0,))
    with torch.no_grad(), added(module, [row]):
        assert module(torch.ones(1, 6)).shape == (1, 4)
    assert module(torch.ones(1, 6)).shape == (1,)


@pytest.mark.parametrize("form", FORMS)
def test_all_forms_are_read_alike(base, layers, form):
    pairs = random_pairs(base, mixed=True, text=TEXT)
    lora = read_lora(FORMS[form](pairs), layers)
    parts = (lora.unet, *lora.text)
    assert sum(len(part.layers) for part in parts) == len(pairs)
    for (part, name), (down, up, alpha) in pairs.items():
        expected = (up @ down) * (alpha / down.shape[0])
        torch.testing.assert_close(parts[part].layers[name].delta(), expected, atol=1e-5, rtol=1e-4)


def test_a_base_without_weights_is_enough(tiny_base, base, layers):
    state = as_kohya(random_pairs(base, unet=EVERYTHING, text=TEXT))
    known = BaseLayers(load_base(tiny_base, ()))
    assert len(known) == len(layers)
    lora, same = read_lora(state, known), read_lora(state, layers)
    assert lora.unet.layers.keys() == same.unet.layers.keys()


def test_the_names_of_stabilitys_unet_are_sdxls():
    """Written out by hand from published SDXL LoRAs."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(
            block_out_channels=(32, 64, 128),
            layers_per_block=2,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=64,
            cross_attention_dim=2048,
            attention_head_dim=8,
        )
    from pm.model.loras.layers import _unet_names

    names = {alias.replace(".", "_"): name for name, alias in _unet_names(unet)}
    block = "transformer_blocks.0"
    for stability, ours in {
        "input_blocks_3_0_op": "down_blocks.0.downsamplers.0.conv",
        "input_blocks_4_1_transformer_blocks_0_attn1_to_q": f"down_blocks.1.attentions.0.{block}.attn1.to_q",
        "input_blocks_7_0_skip_connection": "down_blocks.2.resnets.0.conv_shortcut",
        "input_blocks_8_1_proj_in": "down_blocks.2.attentions.1.proj_in",
        "middle_block_1_proj_out": "mid_block.attentions.0.proj_out",
        "middle_block_2_in_layers_2": "mid_block.resnets.1.conv1",
        "output_blocks_0_1_proj_in": "up_blocks.0.attentions.0.proj_in",
        "output_blocks_2_2_conv": "up_blocks.0.upsamplers.0.conv",
        "output_blocks_5_1_transformer_blocks_0_ff_net_0_proj": f"up_blocks.1.attentions.2.{block}.ff.net.0.proj",
        "output_blocks_5_2_conv": "up_blocks.1.upsamplers.0.conv",
        "output_blocks_8_0_out_layers_3": "up_blocks.2.resnets.2.conv2",
        "time_embed_2": "time_embedding.linear_2",
        "label_emb_0_0": "add_embedding.linear_1",
        "input_blocks_0_0": "conv_in",
        "out_2": "conv_out",
    }.items():
        assert names[stability] == ours


def test_lycoris_locon_with_a_core(base, layers):
    """Three convolutions, 1 x 1, 3 x 3 and 1 x 1, are one of 3 x 3."""
    name, convolution = next((n, m) for n, m in base.unet.named_modules() if n.endswith("resnets.0.conv2"))
    g = torch.Generator().manual_seed(0)
    width = convolution.in_channels
    down, mid = torch.randn(4, width, 1, 1, generator=g), torch.randn(4, 4, 3, 3, generator=g)
    up, stem = torch.randn(width, 4, 1, 1, generator=g), f"lora_unet_{name.replace('.', '_')}"
    parts = {"lora_down.weight": down, "lora_mid.weight": mid, "lora_up.weight": up, "alpha": torch.tensor(2.0)}
    change = read_lora({f"{stem}.{key}": value for key, value in parts.items()}, layers).unet.layers[name]
    x = torch.randn(1, width, 6, 6, generator=g)
    conv = nn.functional.conv2d
    expected = conv(conv(conv(x, down), mid, padding=1), up) * 0.5
    torch.testing.assert_close(conv(x, change.delta(), padding=1), expected, atol=1e-3, rtol=1e-4)


def test_small_hadamard_products_stay_small(layers, base):
    """Rank r in both factors is rank r^2 in all; only where that is more than the matrix itself is it made."""
    name = next(n for n, m in base.unet.named_modules() if n.endswith("ff.net.0.proj"))
    out, inside = base.unet.get_submodule(name).weight.shape
    g = torch.Generator().manual_seed(0)
    for rank, kind in ((2, LowRank), (16, Dense)):
        a, c = (torch.randn(out, rank, generator=g) for _ in range(2))
        b, d = (torch.randn(rank, inside, generator=g) for _ in range(2))
        parts = dict(zip(("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"), (a, b, c, d), strict=True))
        state = {f"lora_unet_{name.replace('.', '_')}.{k}": v for k, v in parts.items()}
        change = read_lora(state, layers).unet.layers[name]
        assert type(change) is kind
        torch.testing.assert_close(change.delta(), (a @ b) * (c @ d), atol=1e-3, rtol=1e-4)


def test_what_is_no_lora_for_this_base_is_said_in_one_line(base, layers, tmp_path):
    good = as_peft(random_pairs(base))
    kohya = as_kohya(random_pairs(base))
    across = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"
    width = {key: torch.zeros(4, 2048) if key == f"{across}.lora_A.weight" else value for key, value in good.items()}
    first = next(iter(good))
    wrong = [
        ({}, "is no LoRA.*holds nothing"),
        ({"some.weight": torch.zeros(2)}, "is no LoRA.*some.weight"),
        ({"id_encoder.x": torch.zeros(2), **good}, "PhotoMaker adapter"),
        ({"image_proj.proj.weight": torch.zeros(2)}, "IP-Adapter"),
        ({"emb_params": torch.zeros(2, 8)}, "learned word"),
        ({"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(2)}, "a whole model"),
        ({"down_blocks.0.resnets.0.conv1.weight": torch.zeros(2)}, "a part of a whole model"),
        (good | {"odd": torch.zeros(2)}, "1 tensor that is no LoRA.*odd"),
        (good | {f"{first.removesuffix('.lora_A.weight')}.lora_magnitude_vector": torch.zeros(2)}, "DoRA"),
        (kohya | {f"{next(iter(kohya)).split('.')[0]}.dora_scale": torch.zeros(2)}, "DoRA"),
        ({"lora_unet_x.oft_blocks": torch.zeros(2)}, "OFT"),
        ({"lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight": torch.zeros(2, 2)}, "for Flux"),
        (good | {"unet.down_blocks.7.x.lora_A.weight": torch.zeros(2, 2)}, "another base.*1 tensor of"),
        (width, "Stable Diffusion XL.*width 2048"),
        ({k: v for k, v in good.items() if k != first}, "lacks lora_A"),
        (good | {first: torch.zeros(5, 3)}, "does not fit"),
        (kohya | {next(k for k in kohya if k.endswith("alpha")): torch.tensor(float("nan"))}, "alpha nan"),
    ]
    for state, message in wrong:
        with pytest.raises(CheckpointError, match=message) as error:
            read_lora(state, layers)
        assert "\n" not in str(error.value)
    files = {
        "missing.safetensors": (None, "does not exist"),
        "empty.safetensors": (b"", "is empty"),
        "pointer.safetensors": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "Git LFS pointer"),
        "page.safetensors": (b"<!DOCTYPE html><html>", "web page"),
        "pickle.safetensors": (b"PK\x03\x04" + b"0" * 60, "pickle"),
        "lora.pt": (b"PK", "pickle, which can run code"),
        "cut.safetensors": (write(tmp_path / "whole.safetensors", good).read_bytes()[:-100], "cut short"),
    }
    for name, (content, message) in files.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(CheckpointError, match=message):
            read_lora(tmp_path / name, layers)
    with pytest.raises(CheckpointError, match="is a folder"):
        read_lora(tmp_path, layers)
