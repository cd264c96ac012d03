"""The frozen parts: text encoders, VAE and U-Net of an SDXL-family model in the diffusers folder layout."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pm.errors import CheckpointError, reason
from pm.model.conditioning import TextFeatures
from pm.model.files import PARTS, fingerprint, quiet_loading, read_json, resolve_folder, weight_variant
from pm.model.prompt import tokenize

__all__ = [
    "BaseModel",
    "TextFeatures",
    "decode_latents",
    "encode_images",
    "encode_text",
    "fingerprint",
    "load_base",
    "move_base",
    "null_text",
]


@dataclass
class BaseModel:
    """A loaded base. Parts that were not asked for are None; sizes come from the configs and are always known."""

    path: str
    fingerprint: str
    tokenizers: tuple
    text_encoders: tuple[nn.Module, nn.Module] | None
    vae: nn.Module | None
    unet: nn.Module | None
    scheduler_config: dict[str, Any]
    vision_path: str
    zeros_for_empty_prompt: bool
    configs: dict[str, dict[str, Any]]  # config.json of every part, by folder name

    @property
    def vae_scale_factor(self) -> int:
        """Pixels per latent, along a side."""
        return 2 ** (len(self.configs["vae"]["block_out_channels"]) - 1)

    @property
    def scaling_factor(self) -> float:
        """Raw VAE latents times this have unit variance: the space the diffusion runs in."""
        return float(self.configs["vae"]["scaling_factor"])

    @property
    def latent_channels(self) -> int:
        return int(self.configs["unet"]["in_channels"])

    @property
    def latent_size(self) -> int:
        return int(self.configs["unet"]["sample_size"])

    @property
    def resolution(self) -> int:
        """Side of the images the U-Net was trained for, in pixels."""
        return self.latent_size * self.vae_scale_factor

    @property
    def text_width(self) -> int:
        """D, the width of both text encoders together."""
        return int(self.configs["text_encoder"]["hidden_size"] + self.configs["text_encoder_2"]["hidden_size"])

    @property
    def pooled_width(self) -> int:
        """P, the width of the second text encoder's projected summary."""
        return int(self.configs["text_encoder_2"]["projection_dim"])

    @property
    def max_tokens(self) -> int:
        """L, the length every prompt is padded to."""
        return int(self.configs["text_encoder"]["max_position_embeddings"])


def load_base(
    path: str | Path,
    parts: tuple[str, ...] = ("text", "vae", "unet"),
    *,
    vision_path: str | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> BaseModel:
    """Load a base model, frozen and in evaluation mode.

    Args:
        path: a diffusers SDXL folder, or a Hub id that is fetched or already cached.
        parts: which of "text", "vae", "unet" to load the weights of.
        vision_path: folder or Hub id of the CLIP vision tower; default: `image_encoder/` inside the base, if there.
        device: where to put the weights.
        dtype: of the weights. A VAE that overflows in half precision (`force_upcast`) stays float32 under float16.

    Raises:
        CheckpointError: the folder or a part of it is missing or damaged.
    """
    unknown = set(parts) - {"text", "vae", "unet"}
    if unknown:
        raise ValueError(f"unknown parts {sorted(unknown)}")
    folder = resolve_folder(str(path), part_folders=True)
    configs = {part: read_json(folder / part / "config.json") for part in PARTS}
    index = read_json(folder / "model_index.json")
    inside = folder / "image_encoder"
    modules = {part: _load_part(folder, part, device, dtype) for part in PARTS if _group(part) in parts}
    return BaseModel(
        path=str(path),
        fingerprint=fingerprint(folder),
        tokenizers=tuple(_load_tokenizer(folder / name) for name in ("tokenizer", "tokenizer_2")),
        text_encoders=(modules["text_encoder"], modules["text_encoder_2"]) if "text" in parts else None,
        vae=modules.get("vae"),
        unet=modules.get("unet"),
        scheduler_config=read_json(folder / "scheduler" / "scheduler_config.json"),
        vision_path=vision_path or (str(inside) if inside.is_dir() else ""),
        zeros_for_empty_prompt=bool(index.get("force_zeros_for_empty_prompt", True)),
        configs=configs,
    )


@torch.no_grad()
def encode_text(base: BaseModel, input_ids: tuple[Tensor, ...]) -> TextFeatures:
    """Encode token ids, one [B, L] int64 tensor for each text encoder, as SDXL does (penultimate states)."""
    if base.text_encoders is None:
        raise CheckpointError(
            f"base {base.path} was loaded without its text encoders; load it with parts=('text', ...)"
        )
    states = []
    for encoder, ids in zip(base.text_encoders, input_ids, strict=True):
        output = encoder(ids.to(encoder.device), output_hidden_states=True)
        states.append(output.hidden_states[-2])
    return TextFeatures(torch.cat(states, dim=-1), output.text_embeds)


@torch.no_grad()
def null_text(base: BaseModel, batch: int) -> TextFeatures:
    """What the U-Net sees for an empty prompt: zeros if the base was trained so (SDXL), else the encoded ""."""
    if base.zeros_for_empty_prompt:
        shape = (batch, base.max_tokens, base.text_width)
        like = base.text_encoders[0] if base.text_encoders else base.unet
        options = {"device": like.device, "dtype": like.dtype} if like is not None else {}
        return TextFeatures(torch.zeros(shape, **options), torch.zeros(batch, base.pooled_width, **options))
    text = encode_text(base, tokenize(base.tokenizers, [""]))
    return TextFeatures(text.embeds.expand(batch, -1, -1), text.pooled.expand(batch, -1))


@torch.no_grad()
def encode_images(base: BaseModel, images: Tensor) -> tuple[Tensor, Tensor]:
    """Raw pixels to VAE moments.

    Args:
        images: float [B, 3, H, W] in -1..1.

    Returns:
        mean and log-variance, each float32 [B, C, h, w], not multiplied by the scaling factor.
    """
    posterior = _vae(base).encode(images.to(base.vae.device, base.vae.dtype)).latent_dist
    return posterior.mean.float(), posterior.logvar.float()


@torch.no_grad()
def decode_latents(base: BaseModel, latents: Tensor) -> Tensor:
    """Latents of the diffusion space [B, C, h, w] to float32 pixels [B, 3, H, W] in 0..1."""
    vae = _vae(base)
    images = vae.decode((latents / base.scaling_factor).to(vae.device, vae.dtype)).sample
    return (images.float() / 2 + 0.5).clamp(0, 1)


def move_base(base: BaseModel, device: str | torch.device, dtype: torch.dtype) -> None:
    """Move and cast all loaded parts, in place; a VAE that overflows in half precision stays float32, as in loading."""
    for encoder in base.text_encoders or ():
        _placed("text", encoder, device, dtype)
    for part, module in (("vae", base.vae), ("unet", base.unet)):
        if module is not None:
            _placed(part, module, device, dtype)


def _vae(base: BaseModel) -> nn.Module:
    if base.vae is None:
        raise CheckpointError(f"base {base.path} was loaded without its VAE; load it with parts=('vae', ...)")
    return base.vae


def _group(part: str) -> str:
    return "text" if part.startswith("text_encoder") else part


def _load_part(folder: Path, part: str, device: str | torch.device, dtype: torch.dtype) -> nn.Module:
    # Imported here: these two libraries take seconds, and prompts or conditioning do not need them.
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    quiet_loading()
    kind = {
        "text_encoder": CLIPTextModel,
        "text_encoder_2": CLIPTextModelWithProjection,
        "vae": AutoencoderKL,
        "unet": UNet2DConditionModel,
    }[part]
    dtype_name = "dtype" if part.startswith("text_encoder") else "torch_dtype"
    options = {"use_safetensors": True, "variant": weight_variant(folder / part), dtype_name: dtype}
    try:
        module = kind.from_pretrained(folder / part, local_files_only=True, **options)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise _unreadable(folder / part, error) from error
    return _placed(part, module, device, dtype).eval().requires_grad_(False)


def _placed(part: str, module: nn.Module, device: str | torch.device, dtype: torch.dtype) -> nn.Module:
    overflows = part == "vae" and dtype is torch.float16 and module.config.force_upcast
    # Not the module's own `to`: diffusers' warns of every cast, also of those that change nothing.
    return nn.Module.to(module, device, torch.float32 if overflows else dtype)


def _load_tokenizer(folder: Path):
    from transformers import CLIPTokenizer

    try:
        return CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, TypeError) as error:
        raise _unreadable(folder, error) from error


def _unreadable(folder: Path, error: Exception) -> CheckpointError:
    return CheckpointError(f"{folder} cannot be loaded ({reason(error)}); copy or download the base again")
