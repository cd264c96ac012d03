"""A base of the diffusers layout as one file with the names of the original code, as checkpoints are shared."""

import re
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from pm.model.base import load_base

_UNET = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
_OPEN_CLIP = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}


def write_single_file(folder: Path, file: Path) -> Path:
    """SDXL's layout: U-Net, VAE and both text encoders."""
    base = load_base(folder)
    state = {f"model.diffusion_model.{name}": value for name, value in _unet(base.unet).items()}
    state |= {f"first_stage_model.{name}": value for name, value in _vae(base.vae).items()}
    first, second = base.text_encoders
    prefix = "conditioner.embedders.0.transformer.text_model."
    state |= {prefix + _bare(name): value for name, value in first.state_dict().items()}
    state |= {f"conditioner.embedders.1.model.{name}": value for name, value in _open_clip(second).items()}
    save_file({name: value.contiguous().clone() for name, value in state.items()}, file)
    return file


def _unet(unet) -> dict[str, Tensor]:
    layers, last = unet.config.layers_per_block, len(unet.config.block_out_channels) - 1

    def renamed(name: str) -> str:
        for ours, theirs in _UNET.items():
            if name.startswith(f"{ours}."):
                return theirs + name.removeprefix(ours)
        found = re.fullmatch(r"(down|up|mid)_blocks?\.?(\d*)\.(\w+)\.(\d+)\.(.*)", name)
        side, block, part, j, rest = found[1], int(found[2] or 0), found[3], int(found[4]), found[5]
        if part == "resnets":
            head, _, tail = rest.rpartition(".")
            rest = f"{_RESNET[head]}.{tail}"
        if side == "mid":
            return f"middle_block.{1 if part == 'attentions' else 2 * j}.{rest}"
        if side == "down":
            if part == "downsamplers":
                return f"input_blocks.{(layers + 1) * (block + 1)}.0.op.{rest.removeprefix('conv.')}"
            return f"input_blocks.{(layers + 1) * block + j + 1}.{int(part == 'attentions')}.{rest}"
        if part == "upsamplers":
            attends = "CrossAttn" in unet.config.up_block_types[block]
            return f"output_blocks.{(layers + 1) * block + layers}.{1 + attends}.{rest}"
        return f"output_blocks.{(layers + 1) * block + j}.{int(part == 'attentions')}.{rest}"

    assert last >= 0
    return {renamed(name): value for name, value in unet.state_dict().items()}


def _vae(vae) -> dict[str, Tensor]:
    count = len(vae.config.block_out_channels)

    def renamed(name: str) -> str:
        name = name.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
        name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
        if "mid_block.attentions.0." in name:
            head, tail = name.split("mid_block.attentions.0.")
            part, _, kind = tail.rpartition(".")
            return f"{head}mid.attn_1.{_ATTENTION[part]}.{kind}"
        name = re.sub(r"down_blocks\.(\d)\.resnets\.(\d)", r"down.\1.block.\2", name)
        name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", name)
        name = re.sub(r"up_blocks\.(\d)\.resnets\.(\d)", lambda m: f"up.{count - 1 - int(m[1])}.block.{m[2]}", name)
        return re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{count - 1 - int(m[1])}.upsample", name)

    state = {renamed(name): value for name, value in vae.state_dict().items()}
    convolutions = re.compile(r".*mid\.attn_1\.(q|k|v|proj_out)\.weight")
    return {name: value[..., None, None] if convolutions.fullmatch(name) else value for name, value in state.items()}


def _open_clip(encoder) -> dict[str, Tensor]:
    state, found = {_bare(name): value for name, value in encoder.state_dict().items()}, {}
    found["text_projection"] = encoder.text_projection.weight.T
    found["token_embedding.weight"] = state["embeddings.token_embedding.weight"]
    found["positional_embedding"] = state["embeddings.position_embedding.weight"]
    found |= {f"ln_final.{kind}": state[f"final_layer_norm.{kind}"] for kind in ("weight", "bias")}
    for i in range(encoder.config.num_hidden_layers):
        own = f"encoder.layers.{i}."
        for kind in ("weight", "bias"):
            parts = [state[f"{own}self_attn.{which}_proj.{kind}"] for which in "qkv"]
            found[f"transformer.resblocks.{i}.attn.in_proj_{kind}"] = torch.cat(parts)
            for ours, theirs in _OPEN_CLIP.items():
                found[f"transformer.resblocks.{i}.{theirs}.{kind}"] = state[f"{own}{ours}.{kind}"]
    return found


def _bare(name: str) -> str:
    return name.removeprefix("text_model.")
