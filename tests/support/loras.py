"""LoRA files with random weights, in the forms that other programs write."""

import re
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from pm.model.base import BaseModel

ATTENTION = r"attn\d\.to_(q|k|v|out\.0)$"
EVERYTHING = r"(attn\d\.to_(q|k|v|out\.0)|ff\.net\.(0\.proj|2)|proj_(in|out)|conv\d?|conv_shortcut|time_emb_proj)$"
TEXT = r"(self_attn\.\w+|mlp\.fc\d)$"
# Where the blocks of the tiny and the toon base stand in Stability's numbering.
_BLOCKS = {
    "down_blocks.0.resnets.0": "input_blocks.1.0",
    "down_blocks.0.downsamplers.0": "input_blocks.2.0",
    "down_blocks.1.resnets.0": "input_blocks.3.0",
    "down_blocks.1.attentions.0": "input_blocks.3.1",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
    "up_blocks.0.resnets.0": "output_blocks.0.0",
    "up_blocks.0.attentions.0": "output_blocks.0.1",
    "up_blocks.0.resnets.1": "output_blocks.1.0",
    "up_blocks.0.attentions.1": "output_blocks.1.1",
    "up_blocks.0.upsamplers.0": "output_blocks.1.2",
    "up_blocks.1.resnets.0": "output_blocks.2.0",
    "up_blocks.1.resnets.1": "output_blocks.3.0",
}
_RESNETS = {
    "conv1": "in_layers.2",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
_SINGLE = {"conv_in": "input_blocks.0.0", "conv_out": "out.2"}
Pairs = dict[tuple[int, str], tuple[Tensor, Tensor, float]]  # part and layer → down, up, alpha


def layers(base: BaseModel, unet: str = ATTENTION, text: str = "") -> dict[tuple[int, str], tuple[int, ...]]:
    """Layers whose names end so, by part (0: the U-Net, 1 and 2: text encoders), with the shapes of their weights."""
    found = {}
    for part, module in enumerate([base.unet, *base.text_encoders]):
        for name, layer in module.named_modules():
            pattern = text if part else unet
            if pattern and isinstance(layer, nn.Linear | nn.Conv2d) and re.search(pattern, name):
                found[part, name] = tuple(layer.weight.shape)
    return found


def random_pairs(
    base: BaseModel,
    seed: int = 0,
    rank: int = 4,
    *,
    mixed: bool = False,
    alpha: float | None = None,
    strength: float = 0.3,
    **which: str,
) -> Pairs:
    """Low-rank changes that do change the picture.

    `mixed`: ranks differ between layers, and alphas unless there is one `alpha` for all.
    """
    generator, found = torch.Generator().manual_seed(seed), {}
    for i, (key, shape) in enumerate(layers(base, **which).items()):
        own = rank + i % 3 if mixed else rank
        down = torch.randn(own, *shape[1:], generator=generator) / torch.Size(shape[1:]).numel() ** 0.5
        up = torch.randn(shape[0], own, *[1] * (len(shape) - 2), generator=generator) * strength
        found[key] = (down, up, alpha or (own / 2 + i % 2 if mixed else own))
    return found


def flat(name: str) -> str:
    return name.replace(".", "_")


def text_model(name: str) -> str:
    """As transformers has always named an encoder's layers in files."""
    return name if name.startswith(("text_model.", "text_projection")) else f"text_model.{name}"


def as_peft(pairs: Pairs) -> dict[str, Tensor]:
    """What diffusers writes today; it has no place for alphas."""
    found = {}
    for (part, name), (down, up, alpha) in pairs.items():
        stem = f"unet.{name}" if part == 0 else f"text_encoder{'_2' * (part == 2)}.{text_model(name)}"
        found |= {f"{stem}.lora_A.weight": down, f"{stem}.lora_B.weight": up * alpha / down.shape[0]}
    return found


def as_old_diffusers(pairs: Pairs) -> dict[str, Tensor]:
    """Attention processors, before PEFT."""
    found = {}
    for (part, name), (down, up, alpha) in pairs.items():
        processor = re.sub(r"(attn.)", r"\1.processor", name).removesuffix(".0")
        stem = f"unet.{processor}_lora"
        if part:
            stem = f"text_encoder{'_2' * (part == 2)}.{text_model(name)}.lora_linear_layer"
        found |= {f"{stem}.down.weight": down, f"{stem}.up.weight": up * alpha / down.shape[0]}
    return found


def as_kohya(pairs: Pairs, unet_name: Callable[[str], str] = flat) -> dict[str, Tensor]:
    """kohya's scripts, on diffusers' U-Net or, with `stability`, on Stability's."""
    found = {}
    for (part, name), (down, up, alpha) in pairs.items():
        stem = f"lora_unet_{unet_name(name)}" if part == 0 else f"lora_te{part}_{flat(text_model(name))}"
        found |= {f"{stem}.lora_down.weight": down, f"{stem}.lora_up.weight": up, f"{stem}.alpha": torch.tensor(alpha)}
    return found


def stability(name: str) -> str:
    """A layer of the tiny or the toon base in the names of Stability's U-Net, as kohya writes them for SDXL."""
    if name in _SINGLE:
        return flat(_SINGLE[name])
    block = next(path for path in _BLOCKS if name.startswith(f"{path}."))
    inner = name[len(block) + 1 :]
    if "resnets" in block:
        inner = _RESNETS[inner]
    elif "downsamplers" in block:
        inner = "op"
    return flat(f"{_BLOCKS[block]}.{inner}")


FORMS: dict[str, Callable[[Pairs], dict[str, Tensor]]] = {
    "peft": as_peft,
    "old": as_old_diffusers,
    "kohya": as_kohya,
    "stability": lambda pairs: as_kohya(pairs, stability),
}


def write(path: Path, state: dict[str, Tensor], metadata: dict[str, str] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: value.contiguous() for key, value in state.items()}, path, metadata=metadata)
    return path
