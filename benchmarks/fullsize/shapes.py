"""SDXL's and CLIP ViT-L/14's published configurations, and the same architecture at a tenth of the width.

Sources: `unet/`, `vae/`, `text_encoder/`, `text_encoder_2/` and `scheduler/` of
stabilityai/stable-diffusion-xl-base-1.0, and openai/clip-vit-large-patch14; what is not said is the classes' default.
The tenth keeps every layer, so all keys are the published ones; 128 px instead of 1024, the tower's 56 instead of 224.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LAYERS = {"text_encoder": 12, "text_encoder_2": 32, "image_encoder": 24}
VOCABULARY, TOKENS = 49408, 77


@dataclass(frozen=True)
class Size:
    """Widths; everything else is SDXL's."""

    name: str
    resolution: int  # px
    unet: tuple[int, int, int]
    heads: tuple[int, int, int]
    vae: tuple[int, int, int, int]
    groups: int  # of the VAE's normalisation
    text: tuple[int, int]  # widths of the two text encoders
    text_heads: tuple[int, int]
    time_ids: int  # width of each of the six numbers
    vision: int
    vision_heads: int
    vision_side: int  # px


FULL = Size(
    "full", 1024, (320, 640, 1280), (5, 10, 20), (128, 256, 512, 512), 32, (768, 1280), (12, 20), 256, 1024, 16, 224
)
TENTH = Size("tenth", 128, (32, 64, 128), (1, 2, 4), (16, 32, 64, 64), 16, (80, 128), (4, 4), 32, 104, 4, 56)
SIZES = {size.name: size for size in (FULL, TENTH)}


def unet(size: Size) -> dict[str, Any]:
    """Arguments of `UNet2DConditionModel`."""
    return {
        "sample_size": size.resolution // 8,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "block_out_channels": size.unet,
        "layers_per_block": 2,
        "attention_head_dim": size.heads,
        "transformer_layers_per_block": (1, 2, 10),
        "cross_attention_dim": sum(size.text),
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": size.time_ids,
        "projection_class_embeddings_input_dim": size.text[1] + 6 * size.time_ids,
    }


def vae(size: Size) -> dict[str, Any]:
    """Arguments of `AutoencoderKL`."""
    return {
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "block_out_channels": size.vae,
        "layers_per_block": 2,
        "latent_channels": 4,
        "norm_num_groups": size.groups,
        "sample_size": size.resolution,
        "scaling_factor": 0.13025,
    }


def text(size: Size, which: int) -> dict[str, Any]:
    """Arguments of `CLIPTextConfig`, of the first (0) or second (1) encoder."""
    width = size.text[which]
    return {
        "vocab_size": VOCABULARY,
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": LAYERS["text_encoder_2" if which else "text_encoder"],
        "num_attention_heads": size.text_heads[which],
        "hidden_act": ("quick_gelu", "gelu")[which],
        "max_position_embeddings": TOKENS,
        "projection_dim": width,
    }


def vision(size: Size) -> dict[str, Any]:
    """Arguments of `CLIPVisionConfig`."""
    return {
        "hidden_size": size.vision,
        "intermediate_size": 4 * size.vision,
        "projection_dim": size.text[0],
        "num_hidden_layers": LAYERS["image_encoder"],
        "num_attention_heads": size.vision_heads,
        "image_size": size.vision_side,
        "patch_size": 14,
        "hidden_act": "quick_gelu",
    }


def builders(size: Size) -> Mapping[str, Any]:
    """By folder, what makes the module of a part: the libraries' own classes, with random weights."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import (
        CLIPTextConfig,
        CLIPTextModel,
        CLIPTextModelWithProjection,
        CLIPVisionConfig,
        CLIPVisionModelWithProjection,
    )

    return {
        "text_encoder": lambda: CLIPTextModel(CLIPTextConfig(**text(size, 0))),
        "text_encoder_2": lambda: CLIPTextModelWithProjection(CLIPTextConfig(**text(size, 1))),
        "vae": lambda: AutoencoderKL(**vae(size)),
        "unet": lambda: UNet2DConditionModel(**unet(size)),
        "image_encoder": lambda: CLIPVisionModelWithProjection(CLIPVisionConfig(**vision(size))),
    }
