"""The published checkpoint: its key list, shapes, prompt expansion, and its LoRA through diffusers' own loader."""

import pytest
import torch
from diffusers import UNet2DConditionModel
from transformers import CLIPImageProcessor, CLIPVisionConfig

from pm.config import from_mapping
from pm.errors import CheckpointError
from pm.model.adapter import adapter_state, apply_adapter, meta_of
from pm.model.adapter_file import load_adapter, save_adapter, strip
from pm.model.base import encode_text, load_base
from pm.model.compose.base import ComposeChoice
from pm.model.compose.stacked import Stacked
from pm.model.config import AdapterConfig
from pm.model.id_encoder import PUBLISHED_VISION, IdEncoder
from pm.model.images import to_clip
from pm.model.lora import normalise_lora
from pm.model.photomaker import PhotoMaker
from pm.model.prompt import class_token_index, parse_prompt, tokenize


def published_id_encoder(
    hidden: int, inner: int, layers: int, patch: int, image: int, projected: int, width: int
) -> dict:
    """Names and shapes of the `id_encoder` part of photomaker-v1.bin (there: 1024, 4096, 24, 14, 224, 768, 2048)."""
    vision, norm = "vision_model.", {"weight": (hidden,), "bias": (hidden,)}
    keys = {
        vision + "embeddings.class_embedding": (hidden,),
        vision + "embeddings.patch_embedding.weight": (hidden, 3, patch, patch),
        vision + "embeddings.position_embedding.weight": ((image // patch) ** 2 + 1, hidden),
        "visual_projection.weight": (projected, hidden),
        "visual_projection_2.weight": (width - projected, hidden),
    }
    for name in ("pre_layrnorm", "post_layernorm"):
        keys |= {f"{vision}{name}.{k}": v for k, v in norm.items()}
    for i in range(layers):
        layer = f"{vision}encoder.layers.{i}."
        for name in ("layer_norm1", "layer_norm2"):
            keys |= {f"{layer}{name}.{k}": v for k, v in norm.items()}
        for name in ("k_proj", "v_proj", "q_proj", "out_proj"):
            keys |= {f"{layer}self_attn.{name}.weight": (hidden, hidden), f"{layer}self_attn.{name}.bias": (hidden,)}
        keys |= {f"{layer}mlp.fc1.weight": (inner, hidden), f"{layer}mlp.fc1.bias": (inner,)}
        keys |= {f"{layer}mlp.fc2.weight": (hidden, inner), f"{layer}mlp.fc2.bias": (hidden,)}
    for mlp, wide in (("mlp1", 2 * width), ("mlp2", width)):
        fuse = f"fuse_module.{mlp}."
        keys |= {fuse + "layernorm.weight": (wide,), fuse + "layernorm.bias": (wide,)}
        keys |= {fuse + "fc1.weight": (width, wide), fuse + "fc1.bias": (width,)}
        keys |= {fuse + "fc2.weight": (width, width), fuse + "fc2.bias": (width,)}
    return keys | {"fuse_module.layer_norm.weight": (width,), "fuse_module.layer_norm.bias": (width,)}


@pytest.mark.parametrize("compose", ["stacked", "average"])
def test_id_encoder_has_exactly_the_published_names_and_shapes(compose):
    with torch.device("meta"):
        encoder = IdEncoder(CLIPVisionConfig(**PUBLISHED_VISION), 2048, from_mapping(ComposeChoice, compose), 4)
    own = {name: tuple(value.shape) for name, value in encoder.state_dict().items()}
    assert own == published_id_encoder(1024, 4096, 24, 14, 224, 768, 2048)


def _published_bin(photomaker: PhotoMaker, style: str) -> dict:
    """The state dict as photomaker-v1.bin holds it, LoRA keys as diffusers of that time wrote them."""
    shapes = published_id_encoder(32, 96, 2, 8, 32, 32, 80)
    generator = torch.Generator().manual_seed(0)
    encoder = {name: torch.randn(shape, generator=generator) * 0.1 for name, shape in shapes.items()}
    if style == "new":
        lora = strip(adapter_state(photomaker), "lora_weights.")
    else:
        lora = {}
        for key, value in strip(adapter_state(photomaker), "lora_weights.").items():
            layer, which = key.removesuffix(".weight").rsplit(".lora_", 1)
            attention, name = layer.removesuffix(".0").rsplit(".", 1)
            word = {"A": "down", "B": "up"}[which]
            old = f"{attention}.processor.{name}_lora.{word}" if style == "processor" else f"{layer}.lora.{word}"
            lora[f"{old}.weight"] = value
    return {"id_encoder": encoder, "lora_weights": lora}


@pytest.fixture
def photomaker(tiny_base):
    targets = ("to_q", "to_k", "to_v", "to_out.0")
    model = PhotoMaker(
        load_base(tiny_base), AdapterConfig(Stacked("stacked"), "repeat", 4, targets, 0, 16, "img", False)
    )
    with torch.no_grad():
        for parameter in model.parameter_groups()["lora"]:
            parameter.copy_(torch.randn_like(parameter) * 0.1)
    return model.eval()


@pytest.mark.parametrize("style", ["new", "processor", "layer"])
def test_published_bin_loads_strictly(photomaker, tmp_path, monkeypatch, style):
    tiny = photomaker.id_encoder.vision_config
    monkeypatch.setattr("pm.model.id_encoder.PUBLISHED_VISION", tiny)
    content = _published_bin(photomaker, style)
    torch.save(content, tmp_path / "photomaker-v1.bin")
    state, meta = load_adapter(tmp_path / "photomaker-v1.bin")
    assert (meta.compose.name, meta.merge, meta.trigger_word, meta.base_fingerprint) == ("stacked", "repeat", "img", "")
    expected = strip(adapter_state(photomaker), "lora_weights.")
    assert state.keys() == {f"id_encoder.{k}" for k in content["id_encoder"]} | {f"lora_weights.{k}" for k in expected}
    apply_adapter(photomaker, state, meta)
    loaded = adapter_state(photomaker)
    assert all(torch.equal(loaded[f"id_encoder.{k}"], v) for k, v in content["id_encoder"].items())
    assert all(torch.equal(loaded[f"lora_weights.{k}"], v) for k, v in expected.items())


def test_network_alpha_is_folded_into_the_weights():
    up, down = torch.ones(6, 4), torch.ones(4, 6)
    state = {"unet.a.attn1.to_q.lora.up.weight": up, "unet.a.attn1.to_q.lora.down.weight": down}
    result = normalise_lora(state | {"unet.a.attn1.to_q.alpha": torch.tensor(2.0)})
    assert torch.equal(result["unet.a.attn1.to_q.lora_B.weight"], up / 2)
    with pytest.raises(CheckpointError, match="text_encoder.x is not a LoRA weight"):
        normalise_lora({"text_encoder.x": up})


def test_our_file_reads_like_the_published_loader_and_diffusers_want_it(photomaker, tiny_base, tmp_path):
    file = tmp_path / "adapter.safetensors"
    save_adapter(file, adapter_state(photomaker), meta_of(photomaker, crop_mode="none", project_version="0"))
    from safetensors.torch import load_file

    lora = strip(load_file(file), "lora_weights.")
    unet = UNet2DConditionModel.from_pretrained(tiny_base / "unet")
    unet.load_lora_adapter(lora, prefix="unet", adapter_name="photomaker")
    x, t, text = torch.randn(2, 4, 8, 8), torch.tensor([3, 700]), torch.randn(2, 77, 80)
    added = {"text_embeds": torch.randn(2, 48), "time_ids": torch.randn(2, 6).abs() * 32}
    with torch.no_grad():
        theirs = unet(x, t, text, added_cond_kwargs=added).sample
        ours = photomaker.unet(x, t, text, added_cond_kwargs=added).sample
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("count", [1, 3])
def test_repeat_is_the_published_expansion(photomaker, count):
    """One prompt, done by hand as the published pipeline describes it: expand ids, encode, fuse at the repeats."""
    base, prompt = photomaker.base, parse_prompt("portrait of a man img in a red shirt")
    by_hand = []
    for tokenizer in base.tokenizers:
        ids = tokenizer(prompt.text).input_ids
        k = class_token_index(tokenizer, prompt)
        ids = ids[:k] + [ids[k]] * count + ids[k + 1 :]
        by_hand.append(torch.tensor([ids + [tokenizer.pad_token_id] * (77 - len(ids))]))
    text = encode_text(base, tuple(by_hand))
    pixels = torch.randn(count, 3, 32, 32)
    with torch.no_grad():
        vision = photomaker.id_encoder.vision_model(pixels).pooler_output
        id_embeds = torch.cat(
            [photomaker.id_encoder.visual_projection(vision), photomaker.id_encoder.visual_projection_2(vision)], -1
        )
        expected = text.embeds.clone()
        expected[0, k : k + count] = photomaker.id_encoder.fuse_module(text.embeds[0, k : k + count], id_embeds)
        ids = tokenize(base.tokenizers, [prompt.text])
        index, counts = torch.tensor([k]), torch.tensor([count])
        ours = photomaker.condition(
            encode_text(base, photomaker.repeat_ids(ids, index, counts)), index, pixels, counts, torch.zeros(1, 6)
        )
    torch.testing.assert_close(ours.embeds, expected)
    torch.testing.assert_close(ours.pooled, text.pooled)


def test_id_pixels_are_those_of_the_clip_processor():
    from pathlib import Path

    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    rough = [Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)).resize(s) for s in ((300, 300), (90, 90))]
    expected = CLIPImageProcessor()(rough, return_tensors="pt").pixel_values
    difference = (to_clip(rough, 224) - expected).abs()
    assert difference.max() < 0.02, Path(__file__)
