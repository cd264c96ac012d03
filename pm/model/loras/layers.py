"""The layers of a base that a LoRA can change, by every name that files give them.

The same layer is `down_blocks.1.attentions.0.proj_in` (diffusers), `lora_unet_down_blocks_1_attentions_0_proj_in`
(kohya) and `lora_unet_input_blocks_4_1_proj_in` (kohya on Stability's own U-Net). Names are compared with every dot
written as an underscore, so one table answers for all of them.
"""

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from pm.model.base import BaseModel
from pm.model.files import read_json, resolve_folder

# What stands before a layer's name, and of which part it then is; {} is the denoiser's folder. The longest first.
_PREFIXES = (
    ("base_model_model_model_diffusion_model_", 0),
    ("model_diffusion_model_", 0),
    ("diffusion_model_", 0),
    ("lora_unet_", 0),
    ("lycoris_", 0),
    ("lora_te1_", 1),
    ("lora_te2_", 2),
    ("lora_te_", 1),
    ("text_encoder_2_", 2),
    ("text_encoder_", 1),
    ("base_model_model_", 0),
    ("{}_", 0),
    ("", 0),
)
# Inside a residual block: diffusers' names, and those of Stability's U-Net.
_RESNET = {
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_SINGLE = {
    "conv_in": "input_blocks.0.0",
    "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}
_OLD_TEXT = {"q_proj": "to_q", "k_proj": "to_k", "v_proj": "to_v", "out_proj": "to_out"}


@dataclass(frozen=True)
class Layer:
    """A linear or convolutional layer of a part of a base."""

    part: int  # 0: the denoiser; 1, 2, ...: the text encoders
    name: str  # in that part
    shape: tuple[int, ...]  # of its weight


class BaseLayers:
    """The layers of one base, whether its weights are loaded or not."""

    def __init__(self, base: BaseModel) -> None:
        """Raises `CheckpointError` where a config of the base is missing."""
        family = base.family
        self.denoiser = family.denoiser
        self.encoders = len(family.text_encoders)
        self.text_width = base.text_width
        unet = base.unet if base.unet is not None else _outline(base, family.denoiser)
        self._known: dict[tuple[int, str], Layer] = {}
        for name, alias in _unet_names(unet):
            self._add(0, unet.get_submodule(name), name, alias)
        for i, folder in enumerate(family.text_encoders):
            encoder = base.text_encoders[i] if base.text_encoders is not None else _outline(base, folder)
            for name, alias in _text_names(encoder):
                self._add(i + 1, encoder.get_submodule(name), name, alias)

    def find(self, name: str) -> Layer | None:
        """The layer that a file calls `name`; None: this base has none of that name."""
        flat = _flat(name)
        for prefix, part in _PREFIXES:
            start = prefix.format(self.denoiser)
            if flat.startswith(start):
                rest = flat[len(start) :]
                found = self._known.get((part, rest.removeprefix("text_model_") if part else rest))
                if found is not None:
                    return found
        return None

    def __len__(self) -> int:
        return len(set(self._known.values()))

    def _add(self, part: int, module: Any, name: str, alias: str) -> None:
        self._known[part, _flat(alias)] = Layer(part, name, weight_shape(module))


def weight_shape(module: Any) -> tuple[int, ...]:
    """Of a linear or convolutional layer, also of a quantised one, whose weight is packed."""
    if isinstance(module, nn.Linear):
        return module.out_features, module.in_features
    return module.out_channels, module.in_channels // module.groups, *module.kernel_size


def _layers(module: nn.Module) -> list[str]:
    return [name for name, each in module.named_modules() if isinstance(each, nn.Linear | nn.Conv2d)]


def _unet_names(unet: nn.Module) -> Iterator[tuple[str, str]]:
    """Each layer with each of its names."""
    places = dict(_stability_blocks(unet))
    for name in _layers(unet):
        yield name, name
        if name.endswith(".to_out.0"):
            yield name, name.removesuffix(".0")  # diffusers before PEFT
        if name in _SINGLE:
            yield name, _SINGLE[name]
        block = next((path for path in places if name.startswith(f"{path}.")), None)
        if block is None:
            continue
        inner = name[len(block) + 1 :]
        if ".resnets." in f"{block}." and inner in _RESNET:
            yield name, f"{places[block]}.{_RESNET[inner]}"
        elif ".downsamplers." in f"{block}.":
            yield name, f"{places[block]}.op"
        else:
            yield name, f"{places[block]}.{inner}"
            if inner.endswith(".to_out.0"):
                yield name, f"{places[block]}.{inner.removesuffix('.0')}"


def _stability_blocks(unet: nn.Module) -> Iterator[tuple[str, str]]:
    """Where diffusers' blocks stand in Stability's U-Net: one numbered list on the way down, and one on the way up."""
    mid = {"mid_block.resnets.0": 0, "mid_block.attentions.0": 1, "mid_block.resnets.1": 2}
    yield from ((path, f"middle_block.{number}") for path, number in mid.items())
    down, up = getattr(unet, "down_blocks", ()), getattr(unet, "up_blocks", ())
    number = 1  # 0 is the first convolution
    for i, block in enumerate(down):
        for j in range(len(block.resnets)):
            yield f"down_blocks.{i}.resnets.{j}", f"input_blocks.{number}.0"
            yield f"down_blocks.{i}.attentions.{j}", f"input_blocks.{number}.1"
            number += 1
        if block.downsamplers is not None:
            yield f"down_blocks.{i}.downsamplers.0", f"input_blocks.{number}.0"
            number += 1
    number = 0
    for i, block in enumerate(up):
        for j in range(len(block.resnets)):
            yield f"up_blocks.{i}.resnets.{j}", f"output_blocks.{number}.0"
            yield f"up_blocks.{i}.attentions.{j}", f"output_blocks.{number}.1"
            number += 1
        if block.upsamplers is not None:
            attends = bool(getattr(block, "attentions", None))
            yield f"up_blocks.{i}.upsamplers.0", f"output_blocks.{number - 1}.{1 + attends}"


def _text_names(encoder: nn.Module) -> Iterator[tuple[str, str]]:
    for name in _layers(encoder):
        known = name.removeprefix("text_model.")  # which some classes have and others do not
        yield name, known
        stem, _, last = known.rpartition(".")
        if last in _OLD_TEXT:
            yield name, f"{stem}.{_OLD_TEXT[last]}"


def _flat(name: str) -> str:
    return name.replace(".processor", "").replace(".", "_")


def _outline(base: BaseModel, part: str) -> Any:
    """A part's modules without weights."""
    library, _, name = base.family.parts[part].partition(".")
    kind: Any = getattr(importlib.import_module(library), name)
    config = read_json(resolve_folder(base.path, part_folders=True) / part / "config.json")
    with torch.device("meta"):
        return kind(kind.config_class(**config)) if library == "transformers" else kind.from_config(config)
