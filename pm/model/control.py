"""Pictures that say where things are: ControlNets (Zhang et al. 2023) and T2I-Adapters (Mou et al. 2023).

Both add feature maps inside the U-Net and leave its weights alone, so rows with and without control share its call: the
others are given zeros. Weights are those of diffusers' `ControlNetModel` and `T2IAdapter`, for SDXL and for Stable
Diffusion 1.x and 2.x alike.

Shapes: B rows, C x h x w latents, H x W pixels, T text tokens.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from pm.errors import CheckpointError
from pm.model.base import BaseModel
from pm.model.conditioning import Conditioning
from pm.model.files import quiet_loading, read_json, resolve_folder, unreadable, weight_variant
from pm.model.regions import Regions

_CONTROLNET, _ADAPTER = "ControlNetModel", "T2IAdapter"


class Control:
    """One of them, for one base."""

    per_step: bool  # its feature maps depend on the noise, and are made anew in every step

    def __init__(self, module: Any, base: BaseModel) -> None:
        """`module`: diffusers' own, with its weights."""
        self.module = module.eval().requires_grad_(False)
        self.family, self.max_tokens = base.family, base.max_tokens

    @property
    def channels(self) -> int:
        """Of the picture that it takes: 3, or 1 for grey."""
        raise NotImplementedError

    def to(self, device: torch.device | str, dtype: torch.dtype) -> None:
        """Move and cast the weights, in place."""
        nn.Module.to(self.module, device, dtype)

    def hint(self, image: Image.Image) -> Tensor:
        """A picture of the image's own size as [channels, H, W] float32 in 0..1."""
        picture = image.convert("L" if self.channels == 1 else "RGB")
        flat = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).float()
        return flat.view(picture.height, picture.width, -1).permute(2, 0, 1) / 255


class ControlNet(Control):
    """A copy of the U-Net's encoder that sees noise, text and the picture."""

    per_step = True

    def __init__(self, module: Any, base: BaseModel) -> None:
        super().__init__(module, base)
        for name, layer in module.named_modules():
            if name.endswith("attn2"):
                layer.set_processor(_MaskedText())

    @property
    def channels(self) -> int:
        return int(self.module.config.conditioning_channels)

    def residuals(self, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning, hints: Tensor) -> list[Tensor]:
        """Feature maps of every skip connection, and of the middle block last; each [B, ...].

        It is told what the U-Net is told of text and identity at that step, as in the published ControlNet pipelines.
        """
        if self.module.device != noisy.device:
            self.to(noisy.device, noisy.dtype)
        told: dict[str, Any] = {} if conditioning.regions is None else conditioning.regions.arguments
        if conditioning.embeds.shape[1] > self.max_tokens:
            told = told | {_MASK: conditioning.mask}
        down, middle = self.module(
            noisy,
            timesteps,
            encoder_hidden_states=conditioning.embeds,
            controlnet_cond=hints.to(noisy),
            added_cond_kwargs=self.family.added_conditioning(conditioning),
            cross_attention_kwargs=told or None,
            return_dict=False,
        )
        return [*down, middle]


class Adapter(Control):
    """A small network that sees the picture alone."""

    per_step = False

    @property
    def channels(self) -> int:
        return int(self.module.config.in_channels)

    @torch.no_grad()
    def features(self, hint: Tensor) -> list[Tensor]:
        """Feature maps of the U-Net's down blocks for one picture, each [C_i, h_i, w_i]."""
        return [features[0] for features in self.module(hint[None].to(self.module.device, self.module.dtype))]


def load_control(place: str | Path, base: BaseModel) -> Control:
    """Read a ControlNet or a T2I-Adapter for a base that is loaded with its U-Net, to its device and in its dtype.

    Args:
        place: a folder in diffusers' layout, or a Hub id.
        base: what it shall control.

    Raises:
        CheckpointError: missing, damaged, of another kind, or for another base.
    """
    folder = resolve_folder(str(place))
    config = read_json(folder / "config.json")
    name = config.get("_class_name")
    if name not in (_CONTROLNET, _ADAPTER):
        raise CheckpointError(f"{place} is a {name}; give a ControlNet ({_CONTROLNET}) or a T2I-Adapter ({_ADAPTER})")
    wrong = (_wrong_controlnet if name == _CONTROLNET else _wrong_adapter)(config, base)
    if wrong is not None:
        raise CheckpointError(f"{place} does not fit base {base.path}: {wrong}; give one that was trained for it")
    quiet_loading()
    import diffusers

    try:
        module = getattr(diffusers, name).from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            variant=weight_variant(folder),
            torch_dtype=base.unet.dtype,
        )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise unreadable(folder, error) from error
    module.to(base.unet.device)
    return ControlNet(module, base) if name == _CONTROLNET else Adapter(module, base)


def _wrong_controlnet(config: Mapping[str, Any], base: BaseModel) -> str | None:
    own, factor = base.unet.config, base.vae_scale_factor
    if config.get("global_pool_conditions"):
        return "it pools its picture (global_pool_conditions), which is not supported"
    for name in ("block_out_channels", "cross_attention_dim"):
        if _listed(config.get(name)) != _listed(own[name]):
            return f"{name} is {config.get(name)}, the U-Net's is {own[name]}"
    if config.get("addition_embed_type") == "text_time" and not base.pooled_width:
        return "it needs the pooled text and the time ids of SDXL"
    if config.get("in_channels", 4) != base.latent_channels:
        return f"it sees {config.get('in_channels')} channels of latents, the VAE makes {base.latent_channels}"
    shrinks = 2 ** (len(_listed(config.get("conditioning_embedding_out_channels", (16, 32, 96, 256)))) - 1)
    return None if shrinks == factor else f"its picture has {shrinks} pixels for each latent, the VAE's has {factor}"


def _wrong_adapter(config: Mapping[str, Any], base: BaseModel) -> str | None:
    own, factor = base.unet.config, base.vae_scale_factor
    theirs, ours = _listed(config.get("channels")), _listed(own["block_out_channels"])
    if any(a != b for a, b in zip(theirs, ours, strict=False)):
        return f"its channels are {theirs}, the U-Net's {ours}"
    # What a block without attention is given is added after it has shrunk.
    shrinks = factor * (2 if own["down_block_types"][0] == "DownBlock2D" else 1)
    found = config.get("downscale_factor", 8)
    return None if found == shrinks else f"its picture has {found} pixels for each feature, the U-Net's has {shrinks}"


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]


# diffusers passes unknown arguments on to the layers, and is silent of those by this name that a layer does not take.
_MASK = "ip_hidden_states"


class _MaskedText:
    """Cross-attention to text that is padded in some rows, or of several people each at their place: a ControlNet's own
    call has no place for such masks."""

    def __init__(self) -> None:
        from diffusers.models.attention_processor import AttnProcessor2_0

        self._plain = AttnProcessor2_0()

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        ip_hidden_states: Tensor | None = None,
        ip_adapter_masks: Regions | None = None,
    ) -> Tensor:
        """`ip_hidden_states`: the text's mask [B, T], True = attend; None: to all of it."""
        if ip_hidden_states is not None:
            bias = (1 - ip_hidden_states.to(hidden_states.dtype)) * -10000.0
            attention_mask = bias[:, None]
        if ip_adapter_masks is not None and encoder_hidden_states is not None:
            places = ip_adapter_masks.bias(hidden_states.shape[1], hidden_states)[:, 0]
            attention_mask = places if attention_mask is None else attention_mask + places
        output: Tensor = self._plain(attn, hidden_states, encoder_hidden_states, attention_mask, temb)
        return output
