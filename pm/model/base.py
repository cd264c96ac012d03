"""The frozen parts of a base model in the diffusers folder layout: text encoders, VAE and U-Net, of any family."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pm.errors import CheckpointError
from pm.model.conditioning import Conditioning, TextFeatures
from pm.model.families.base import AUTO, BaseShapes, Family, find_family
from pm.model.files import parts_fingerprint, read_json, resolve_folder
from pm.model.prompt import tokenize
from pm.model.single_file import unpack

__all__ = [
    "BaseModel",
    "TextFeatures",
    "decode_latents",
    "encode_images",
    "encode_text",
    "load_base",
    "move_base",
    "null_text",
]


@dataclass
class BaseModel:
    """A loaded base. Parts that were not asked for are None; sizes come from the configs and are always known."""

    path: str
    family: Family
    shapes: BaseShapes
    fingerprint: str
    tokenizers: tuple[Any, ...]
    text_encoders: tuple[nn.Module, ...] | None
    vae: Any  # nn.Module | None; its methods are the library's
    unet: Any  # nn.Module | None
    scheduler_config: dict[str, Any]  # the noise process, see `pm.model.noise`
    vision_path: str
    zeros_for_empty_prompt: bool
    drawn: bool  # it knows drawings of people, not photographs

    @property
    def vae_scale_factor(self) -> int:
        """Pixels per latent, along a side."""
        return self.shapes.pixels_per_latent

    @property
    def scaling_factor(self) -> float:
        """Raw VAE latents times this have unit variance: the space the diffusion runs in."""
        return self.shapes.scaling_factor

    @property
    def latent_channels(self) -> int:
        return self.shapes.latent_channels

    @property
    def extra_channels(self) -> int:
        """Of an inpainting U-Net's input, beside the noise: mask [1] and masked picture [C]; 0 for all others."""
        return self.shapes.extra_channels

    @property
    def latent_size(self) -> int:
        return self.shapes.latent_size

    @property
    def resolution(self) -> int:
        """Side of the images the U-Net was trained for, in pixels."""
        return self.latent_size * self.vae_scale_factor

    @property
    def text_width(self) -> int:
        """D, the width of a token's text feature."""
        return self.shapes.text_width

    @property
    def pooled_width(self) -> int:
        """P, the width of a prompt's summary; 0 for families without."""
        return self.shapes.pooled_width

    @property
    def max_tokens(self) -> int:
        """L, the length every prompt is padded to."""
        return self.shapes.max_tokens

    def predict(self, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """The U-Net's output [B, C, h, w] for noisy latents [B, C, h, w] at timesteps [B]."""
        return self.family.predict(self.unet, noisy, timesteps, conditioning, max_tokens=self.max_tokens)


def load_base(
    path: str | Path,
    parts: tuple[str, ...] = ("text", "vae", "unet"),
    *,
    vision_path: str | None = None,
    family: str = AUTO,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> BaseModel:
    """Load a base model, frozen and in evaluation mode.

    Args:
        path: a folder in the diffusers layout, a Hub id that is fetched or already cached, or a checkpoint in one file.
        parts: which of "text", "vae", "unet" to load the weights of.
        vision_path: folder or Hub id of the CLIP vision tower; default: `image_encoder/` inside the base, if there.
        family: "auto": what its `model_index.json` says; else as in `conf/base`.
        device: where to put the weights.
        dtype: of the weights. A VAE that overflows in half precision (`force_upcast`) stays float32 under float16.

    Raises:
        CheckpointError: the folder or a part of it is missing or damaged, or of a family that is not supported.
    """
    unknown = set(parts) - {"text", "vae", "unet"}
    if unknown:
        raise ValueError(f"unknown parts {sorted(unknown)}")
    one = str(path).endswith(".safetensors")
    folder = unpack(path) if one else resolve_folder(str(path), part_folders=True)
    kind = find_family(folder, family)
    configs = {part: read_json(folder / part / "config.json") for part in kind.parts}
    _check_channels(path, kind, configs)
    index = read_json(folder / "model_index.json")
    inside = folder / "image_encoder"
    wanted = [part for part in kind.parts if _group(kind, part) in parts]
    modules = {part: _placed(part, kind.load_part(folder, part, dtype), device, dtype) for part in wanted}
    for module in modules.values():
        module.eval().requires_grad_(False)
    return BaseModel(
        path=str(path),
        family=kind,
        shapes=kind.shapes(configs),
        fingerprint=parts_fingerprint(folder, tuple(kind.parts)),
        tokenizers=tuple(kind.load_tokenizer(folder / name) for name in kind.tokenizers),
        text_encoders=tuple(modules[name] for name in kind.text_encoders) if "text" in parts else None,
        vae=modules.get("vae"),
        unet=modules.get(kind.denoiser),
        scheduler_config=kind.noise_process(read_json(folder / "scheduler" / "scheduler_config.json")),
        vision_path=vision_path or (str(inside) if inside.is_dir() else ""),
        zeros_for_empty_prompt=kind.null_is_zero(index),
        drawn=bool(index.get("_drawn", False)),
    )


@torch.no_grad()
def encode_text(base: BaseModel, input_ids: tuple[Tensor, ...], clip_skip: Sequence[int] | None = None) -> TextFeatures:
    """Encode token ids, one [B, L] int64 tensor for each text encoder; `clip_skip`: as in `Family.encode`."""
    if base.text_encoders is None:
        raise CheckpointError(
            f"base {base.path} was loaded without its text encoders; load it with parts=('text', ...)"
        )
    if not any(clip_skip or ()):
        return base.family.encode(base.text_encoders, input_ids)
    return base.family.encode(base.text_encoders, input_ids, clip_skip)


@torch.no_grad()
def null_text(base: BaseModel, batch: int) -> TextFeatures:
    """What the U-Net sees for an empty prompt: zeros if the base was trained so (SDXL), else the encoded "".

    Training loads no text encoders where the dataset has the text features: they are then loaded for this one call.
    """
    like: Any = base.text_encoders[0] if base.text_encoders else base.unet
    options: dict[str, Any] = {"device": like.device, "dtype": like.dtype} if like is not None else {}
    if base.zeros_for_empty_prompt:
        shape = (batch, base.max_tokens, base.text_width)
        return TextFeatures(torch.zeros(shape, **options), torch.zeros(batch, base.pooled_width, **options))
    encoding = base
    if base.text_encoders is None:
        encoding = load_base(base.path, ("text",), family=base.family.name, **options)
    text = encode_text(encoding, tokenize(base.tokenizers, [""]))
    return TextFeatures(text.embeds.expand(batch, -1, -1), text.pooled.expand(batch, -1))


@torch.no_grad()
def encode_images(base: BaseModel, images: Tensor) -> tuple[Tensor, Tensor]:
    """Raw pixels to VAE moments.

    Args:
        images: float [B, 3, H, W] in -1..1.

    Returns:
        mean and log-variance, each float32 [B, C, h, w], not multiplied by the scaling factor.
    """
    vae = _vae(base)
    posterior = vae.encode(images.to(vae.device, vae.dtype)).latent_dist
    return posterior.mean.float(), posterior.logvar.float()


@torch.no_grad()
def decode_latents(base: BaseModel, latents: Tensor) -> Tensor:
    """Latents of the diffusion space [B, C, h, w] to float32 pixels [B, 3, H, W] in 0..1."""
    vae = _vae(base)
    images: Tensor = vae.decode((latents / base.scaling_factor).to(vae.device, vae.dtype)).sample
    return (images.float() / 2 + 0.5).clamp(0, 1)


def move_base(base: BaseModel, device: str | torch.device, dtype: torch.dtype) -> None:
    """Move and cast all loaded parts, in place; a VAE that overflows in half precision stays float32, as in loading."""
    for encoder in base.text_encoders or ():
        _placed("text", encoder, device, dtype)
    for part, module in (("vae", base.vae), ("unet", base.unet)):
        if module is not None:
            _placed(part, module, device, dtype)


def _vae(base: BaseModel) -> Any:
    if base.vae is None:
        raise CheckpointError(f"base {base.path} was loaded without its VAE; load it with parts=('vae', ...)")
    return base.vae


def _group(family: Family, part: str) -> str:
    """Which of the `parts` of `load_base` a part's folder belongs to."""
    if part in family.text_encoders:
        return "text"
    return "unet" if part == family.denoiser else "vae"


def check_trainable(base: BaseModel) -> None:
    """Refuse to train, or to make a dataset, for a base that sees a picture beside the noise.

    Raises:
        CheckpointError: its U-Net is one for inpainting.
    """
    if base.extra_channels:
        raise CheckpointError(
            f"base {base.path} is one for inpainting: it can be sampled, but not trained; give the text-to-image base"
        )


def _check_channels(path: str | Path, family: Family, configs: dict[str, dict[str, Any]]) -> None:
    """Refuse bases for editing or upscaling: their U-Net sees a picture beside the noise. Inpainting is known."""
    seen, made = configs[family.denoiser].get("in_channels"), configs["vae"].get("latent_channels")
    if isinstance(made, int) and seen not in (made, 2 * made + 1):
        raise CheckpointError(
            f"base {path} takes {seen} channels where its VAE makes {made}: it is one for editing or upscaling; give "
            "the text-to-image or the inpainting base"
        )


def _placed(part: str, module: Any, device: str | torch.device, dtype: torch.dtype) -> Any:
    overflows = part == "vae" and dtype is torch.float16 and module.config.force_upcast
    # Not the module's own `to`: diffusers' warns of every cast, also of those that change nothing.
    return nn.Module.to(module, device, torch.float32 if overflows else dtype)
