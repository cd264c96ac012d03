"""The toon base's architecture: an SDXL in miniature, written in the standard diffusers folder layout.

Everything that loads `stabilityai/stable-diffusion-xl-base-1.0` loads this folder, and the other way round. The CLIP
vision tower lies beside it in `image_encoder/`, as in the folders of IP-Adapter.
"""

import dataclasses
import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from pm.toon import captions
from pm.toon.covers import covers
from pm.toon.identities import identities, scene

MAX_TOKENS = 77
TEXT_PROJECTION = "text_projection.safetensors"  # of CLIP: text encoder 1 has no place for it


@dataclasses.dataclass(frozen=True)
class BaseSize:
    """Widths of a toon base. `resolution` in px; text widths add up to D."""

    resolution: int
    vae_channels: tuple[int, ...]
    unet_channels: tuple[int, int]
    text_width: int  # encoder 1; also the CLIP projection width
    text_width_2: int  # encoder 2; also the pooled width
    text_layers: int
    vision_width: int
    vision_layers: int
    latent_channels: int = 4


SIZES = {
    "toon": BaseSize(64, (16, 32, 64), (96, 192), 96, 128, 3, 128, 4, latent_channels=8),
    "tiny": BaseSize(32, (8, 16, 16), (32, 32), 32, 48, 2, 32, 2),
}


def build_tokenizer(pad_token: str) -> CLIPTokenizer:
    """A CLIP byte-pair tokenizer whose merges are learnt from toon captions: every caption word is one token, any
    other text still encodes, byte by byte."""
    rng = random.Random(0)
    texts = ["man woman person img photo portrait boy girl"] * 50
    for person in identities(400, 0, "train"):
        over = covers(rng, 0.3)
        texts.append(captions.identity_caption(person, scene(rng), rng, over=over))
        texts.append(captions.caption(person, scene(rng), rng, over=over))
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>", continuing_subword_prefix=""))
    bpe.normalizer = normalizers.Lowercase()
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(" ", "removed"),
            pre_tokenizers.Punctuation(),
            pre_tokenizers.ByteLevel(False, use_regex=False),
        ]
    )
    bpe.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=4000, end_of_word_suffix="</w>", show_progress=False))
    merges: Any = [
        tuple(m) if not isinstance(m, str) else tuple(m.split(" ")) for m in json.loads(bpe.to_str())["model"]["merges"]
    ]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet(), key=lambda c: (c != "!", ord(c)))
    words = letters + [c + "</w>" for c in letters] + list(dict.fromkeys(a + b for a, b in merges))
    words += ["<|startoftext|>", "<|endoftext|>"]
    vocab = {w: i for i, w in enumerate(dict.fromkeys(words))}
    return CLIPTokenizer(vocab=vocab, merges=merges, pad_token=pad_token, model_max_length=MAX_TOKENS)


def _text_config(width: int, layers: int, projection: int, tokenizer: CLIPTokenizer) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=4 * width,
        projection_dim=projection,
        num_hidden_layers=layers,
        num_attention_heads=4,
        max_position_embeddings=MAX_TOKENS,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


@dataclasses.dataclass
class ToonParts:
    """The modules of a toon base before they are written; `clip` holds text encoder 1 and the vision tower."""

    size: BaseSize
    tokenizers: tuple[CLIPTokenizer, CLIPTokenizer]
    clip: CLIPModel
    text_encoder_2: CLIPTextModelWithProjection
    vae: AutoencoderKL
    unet: UNet2DConditionModel


def build_parts(size: BaseSize, seed: int) -> ToonParts:
    """Freshly initialised modules; the same seed gives the same weights."""
    torch.manual_seed(seed)
    tokenizer, tokenizer_2 = build_tokenizer("<|endoftext|>"), build_tokenizer("!")
    text = _text_config(size.text_width, size.text_layers, size.text_width, tokenizer)
    vision = CLIPVisionConfig(
        hidden_size=size.vision_width,
        intermediate_size=3 * size.vision_width,
        projection_dim=size.text_width,
        num_hidden_layers=size.vision_layers,
        num_attention_heads=4,
        image_size=size.resolution,
        patch_size=8,
    )
    clip = CLIPModel(
        CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=size.text_width)
    )
    text_2 = _text_config(size.text_width_2, size.text_layers, size.text_width_2, tokenizer_2)
    vae, text_widths = _vae(size), size.text_width + size.text_width_2
    unet = UNet2DConditionModel(
        **_unet_settings(size, text_widths),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=32,
        projection_class_embeddings_input_dim=size.text_width_2 + 6 * 32,
    )
    return ToonParts(size, (tokenizer, tokenizer_2), clip, CLIPTextModelWithProjection(text_2), vae, unet)


def _vae(size: BaseSize) -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(size.vae_channels),
        up_block_types=("UpDecoderBlock2D",) * len(size.vae_channels),
        block_out_channels=size.vae_channels,
        layers_per_block=1,
        latent_channels=size.latent_channels,
        norm_num_groups=8,
        sample_size=size.resolution,
        force_upcast=False,
    )


def _unet_settings(size: BaseSize, text_width: int) -> dict[str, Any]:
    """What the U-Nets of all families have in common."""
    return {
        "sample_size": size.resolution // 2 ** (len(size.vae_channels) - 1),
        "block_out_channels": size.unet_channels,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "layers_per_block": 1,
        "attention_head_dim": tuple(c // 32 for c in size.unet_channels),
        "norm_num_groups": 16,
        "in_channels": size.latent_channels,
        "out_channels": size.latent_channels,
        "cross_attention_dim": text_width,
    }


def scheduler(prediction: str = "epsilon") -> DDIMScheduler:
    """The noise schedule of Stable Diffusion, which SDXL kept."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="leading",
        prediction_type=prediction,
    )


def write_parts(parts: ToonParts, path: Path | str, dtype: torch.dtype = torch.float16) -> None:
    """Write the diffusers SDXL layout plus `image_encoder/`; weights are stored as `dtype`."""
    path = Path(path)
    config: Any = parts.clip.config  # transformers declares its parts as what they may be read from
    text = CLIPTextModel(config.text_config)
    text.load_state_dict(parts.clip.text_model.state_dict())
    modules: dict[str, Any] = {
        "text_encoder": text,
        "text_encoder_2": parts.text_encoder_2,
        "vae": parts.vae,
        "unet": parts.unet,
        "image_encoder": _vision(parts.clip),
    }
    _write_modules(path, modules, dtype)
    tokenizers = dict(zip(("tokenizer", "tokenizer_2"), parts.tokenizers, strict=True))
    # Marked by `_drawn`: a photograph of a person is nothing this base knows. Other loaders skip names like that.
    about = {"_class_name": "StableDiffusionXLPipeline", "_drawn": True, "force_zeros_for_empty_prompt": True}
    _write_index(path, about, modules, tokenizers, scheduler())


def write_random_base(path: Path | str, size: str = "tiny", seed: int = 0) -> Path:
    """An untrained base of a size in `SIZES`, for tests and for measuring speed; returns its path."""
    write_parts(build_parts(SIZES[size], seed), path, dtype=torch.float32)
    return Path(path)


def write_random_sd15(path: Path | str, size: str = "tiny", seed: int = 0, prediction: str = "epsilon") -> Path:
    """An untrained base in the layout of Stable Diffusion 1.5, or of 2.1 at 768 px with `prediction="v_prediction"`.

    One text encoder; the vision tower projects to its width, as CLIP ViT-L/14 does to that of Stable Diffusion 1.5.
    """
    path, sizes = Path(path), SIZES[size]
    parts = build_parts(sizes, seed)
    config: Any = parts.clip.config
    text = CLIPTextModel(config.text_config)
    text.load_state_dict(parts.clip.text_model.state_dict())
    unet = UNet2DConditionModel(**_unet_settings(sizes, sizes.text_width))
    modules: dict[str, Any] = {
        "text_encoder": text,
        "vae": parts.vae,
        "unet": unet,
        "image_encoder": _vision(parts.clip),
    }
    _write_modules(path, modules, torch.float32)
    about: dict[str, Any] = {"_class_name": "StableDiffusionPipeline", "requires_safety_checker": False}
    about |= {"safety_checker": [None, None], "feature_extractor": [None, None]}
    _write_index(path, about, modules, {"tokenizer": parts.tokenizers[0]}, scheduler(prediction))
    return path


def _vision(clip: CLIPModel) -> CLIPVisionModelWithProjection:
    config: Any = clip.config
    vision = CLIPVisionModelWithProjection(config.vision_config)
    vision.vision_model.load_state_dict(clip.vision_model.state_dict())
    vision.visual_projection.load_state_dict(clip.visual_projection.state_dict())
    return vision


def _write_modules(path: Path, modules: Mapping[str, Any], dtype: torch.dtype) -> None:
    """Stored as `dtype`, loaded as float32: transformers would take the type it is stored in, diffusers does not, and
    plain pipelines fail where the two meet."""
    for name, module in modules.items():
        state = {k: v.detach().clone() for k, v in module.state_dict().items()}
        module.to(dtype).save_pretrained(path / name)
        module.to(torch.float32).load_state_dict(state)
        file = path / name / "config.json"
        config = json.loads(file.read_text())
        if "dtype" in config:
            file.write_text(json.dumps(config | {"dtype": "float32"}, indent=2, sort_keys=True) + "\n")


def _write_index(
    path: Path,
    about: Mapping[str, Any],
    modules: Mapping[str, Any],
    tokenizers: Mapping[str, CLIPTokenizer],
    noise: DDIMScheduler,
) -> None:
    for name, tokenizer in tokenizers.items():
        tokenizer.save_pretrained(path / name)
    noise.save_pretrained(path / "scheduler")
    library = {AutoencoderKL: "diffusers", UNet2DConditionModel: "diffusers"}
    index = dict(about) | {"scheduler": ["diffusers", type(noise).__name__]}
    index |= {name: ["transformers", "CLIPTokenizer"] for name in tokenizers}
    for name, module in modules.items():
        if name != "image_encoder":  # no part of a text-to-image pipeline
            index[name] = [library.get(type(module), "transformers"), type(module).__name__]
    (path / "model_index.json").write_text(json.dumps(dict(sorted(index.items())), indent=2) + "\n")
