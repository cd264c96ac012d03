"""Files for ComfyUI: the keys that its PhotoMaker loader takes strictly, and the names that its LoRA loader knows."""

import pytest
import torch
from safetensors.torch import load_file
from support.sampling import TARGETS
from transformers import CLIPVisionConfig

from pm.config import from_mapping
from pm.errors import CheckpointError
from pm.model.adapter import adapter_state, meta_of
from pm.model.adapter_file import strip
from pm.model.base import load_base
from pm.model.comfyui import save_comfyui
from pm.model.compose.base import ComposeChoice
from pm.model.compose.stacked import Stacked
from pm.model.config import AdapterConfig
from pm.model.formats import save_published
from pm.model.id_encoder import PUBLISHED_VISION, IdEncoder
from pm.model.photomaker import PhotoMaker

# ComfyUI's `PhotoMakerIDEncoder` (comfy_extras/nodes_photomaker.py on comfy/clip_model.py), which loads strictly. Its
# state dict has these 407 keys; nothing may be missing, and nothing more be there.
_LAYER = [
    f"{name}.{kind}"
    for name in ("layer_norm1", "layer_norm2", "mlp.fc1", "mlp.fc2")
    + tuple(f"self_attn.{matrix}_proj" for matrix in ("q", "k", "v", "out"))
    for kind in ("weight", "bias")
]
COMFYUI = {
    "vision_model.embeddings.class_embedding",
    "vision_model.embeddings.patch_embedding.weight",
    "vision_model.embeddings.position_embedding.weight",
    *(f"vision_model.{name}.{kind}" for name in ("pre_layrnorm", "post_layernorm") for kind in ("weight", "bias")),
    *(f"vision_model.encoder.layers.{i}.{name}" for i in range(24) for name in _LAYER),
    "visual_projection.weight",
    "visual_projection_2.weight",
    *(
        f"fuse_module.{mlp}.{name}.{kind}"
        for mlp in ("mlp1", "mlp2")
        for name in ("layernorm", "fc1", "fc2")
        for kind in ("weight", "bias")
    ),
    "fuse_module.layer_norm.weight",
    "fuse_module.layer_norm.bias",
}


@pytest.mark.parametrize("compose", ["stacked", "average"])
def test_at_real_size_the_encoder_has_exactly_comfyuis_keys(compose):
    with torch.device("meta"):
        encoder = IdEncoder(CLIPVisionConfig(**PUBLISHED_VISION), 2048, from_mapping(ComposeChoice, compose), 4)
    assert len(COMFYUI) == 407 and set(encoder.state_dict()) == COMFYUI


@pytest.fixture
def adapter(tiny_base, tmp_path):
    model = PhotoMaker(
        load_base(tiny_base), AdapterConfig(Stacked("stacked"), "insert", 4, TARGETS, 0, 4, "img", False)
    )
    with torch.no_grad():
        for parameter in model.parameter_groups()["lora"]:
            parameter.copy_(torch.randn_like(parameter) * 0.1)
    return adapter_state(model), meta_of(model, crop_mode="none", project_version="0")


def test_published_files_hold_the_encoder_as_the_loader_asks_for_it(adapter, tmp_path):
    state, _ = adapter
    save_published(tmp_path / "a.bin", state)
    content = torch.load(tmp_path / "a.bin", weights_only=True)
    depth = {key for key in COMFYUI if ".layers." not in key}
    assert {key for key in content["id_encoder"] if ".layers." not in key} == depth


def test_a_folder_like_comfyuis_models(adapter, tmp_path):
    state, meta = adapter
    save_comfyui(tmp_path / "models", state, meta, "anna")
    encoder = load_file(tmp_path / "models/photomaker/anna.safetensors")
    assert encoder.keys() == strip(state, "id_encoder.").keys()
    assert all(torch.equal(value, state[f"id_encoder.{key}"]) for key, value in encoder.items())
    lora = load_file(tmp_path / "models/loras/anna.safetensors")
    ours = strip(state, "lora_weights.unet.")
    assert len(lora) == 3 * len(ours) // 2
    for key in [key for key in ours if key.endswith(".lora_A.weight")]:
        layer = key.removesuffix(".lora_A.weight")
        name = f"lora_unet_{layer.replace('.', '_')}"
        up, down, alpha = (lora[f"{name}.{part}"] for part in ("lora_up.weight", "lora_down.weight", "alpha"))
        expected = ours[f"{layer}.lora_B.weight"] @ ours[key]
        torch.testing.assert_close(up @ down * alpha / down.shape[0], expected)
    assert "photomaker/anna.safetensors" in (tmp_path / "models/README.md").read_text()
    with pytest.raises(CheckpointError, match="is there already"):
        save_comfyui(tmp_path / "models", state, meta, "anna")


def test_what_comfyui_has_no_place_for_is_refused(adapter, tmp_path):
    import dataclasses

    state, meta = adapter
    with pytest.raises(CheckpointError, match="an adapter of compose=.* use format=native"):
        save_comfyui(tmp_path / "a", state | {"id_encoder.compose.w": torch.zeros(1)}, meta)
    with pytest.raises(CheckpointError, match="an adapter of the kind ip_adapter"):
        save_comfyui(tmp_path / "a", state, dataclasses.replace(meta, kind="ip_adapter"))


def test_diffusers_reads_the_lora_of_that_folder_too(adapter, tiny_base, tmp_path):
    """Its converter of kohya's names is another reader than ours."""
    from diffusers import UNet2DConditionModel
    from diffusers.loaders.lora_conversion_utils import _convert_non_diffusers_lora_to_diffusers

    state, meta = adapter
    save_comfyui(tmp_path / "models", state, meta, "anna")
    read, alphas = _convert_non_diffusers_lora_to_diffusers(load_file(tmp_path / "models/loras/anna.safetensors"))
    unet = UNet2DConditionModel.from_pretrained(tiny_base / "unet")
    own = {name for name, _ in unet.named_modules()}
    ours = strip(state, "lora_weights.")
    for key in read:
        layer = key.removeprefix("unet.").rpartition(".lora")[0]
        assert layer in own or layer.replace(".processor", "") in own, key
    assert len(read) == len(ours) and all(float(alpha) == 4 for alpha in alphas.values())
