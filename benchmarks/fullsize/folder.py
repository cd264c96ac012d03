"""Random weights in the published layout: a folder of SDXL with CLIP ViT-L/14 beside it, as users have them on disk."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.fullsize import shapes
from benchmarks.fullsize.published import check_keys
from benchmarks.fullsize.shapes import Size
from pm.files import replace_folder, write_json

_FILES = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model"}
# scheduler/scheduler_config.json as published: also what other classes of schedulers read of it.
_NOISE: dict[str, Any] = {
    "_class_name": "EulerDiscreteScheduler",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "interpolation_type": "linear",
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "sample_max_value": 1.0,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "timestep_spacing": "leading",
    "trained_betas": None,
    "use_karras_sigmas": False,
}
_INDEX = {
    "_class_name": "StableDiffusionXLPipeline",
    "_drawn": True,  # not published: the rehearsal's people are drawn, and evaluating them asks for this
    "force_zeros_for_empty_prompt": True,
    "scheduler": ["diffusers", "EulerDiscreteScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "tokenizer_2": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


def write_folder(
    path: Path, size: Size, dtype: torch.dtype = torch.bfloat16, seed: int = 0, device: str = "cpu"
) -> Path:
    """Write the folder, one part in memory at a time; what is there already is kept.

    Every part's keys and, at full size, shapes are checked against the published ones on the way.

    Args:
        path: the folder; `image_encoder/` in it is the vision tower.
        size: widths.
        dtype: of the weights in the files.
        seed: of the weights.
        device: where they are drawn; each kind of device draws its own.

    Returns:
        the folder.

    Raises:
        SystemExit: a part does not have the published keys.
    """
    for number, (name, build) in enumerate(shapes.builders(size).items()):
        if (path / name / "config.json").exists():
            continue
        with torch.device("meta"):
            module = build()
        check_keys(name, stored_shapes(name, module), size)
        with replace_folder(path / name) as folder:
            _write_part(folder, name, module, dtype, torch.Generator(device).manual_seed(seed + number))
    if not (path / "model_index.json").exists():
        _write_rest(path)
    return path


def stored_name(part: str, key: str) -> str:
    """The name that a parameter has in the published file; transformers 5 leaves a prefix of one part out."""
    prefix = "text_model."
    return prefix + key if part == "text_encoder" and not key.startswith(prefix) else key


def stored_shapes(part: str, module: nn.Module) -> dict[str, tuple[int, ...]]:
    """Shape of every parameter by its published name."""
    return {stored_name(part, name): tuple(value.shape) for name, value in module.named_parameters()}


def _write_part(folder: Path, name: str, module: Any, dtype: torch.dtype, generator: torch.Generator) -> None:
    from safetensors.torch import save_file

    state = {stored_name(name, key): value for key, value in _weights(module, dtype, generator)}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(state, folder / f"{_FILES.get(name, 'model')}.safetensors", metadata={"format": "pt"})
    if hasattr(module, "save_config"):
        module.save_config(folder)
    else:
        module.config.architectures = [type(module).__name__]
        module.config.save_pretrained(folder)


def _weights(module: nn.Module, dtype: torch.dtype, generator: torch.Generator) -> Iterator[tuple[str, Tensor]]:
    """Weights that keep activations near unit variance through any depth."""
    norms = {
        f"{name}.weight" for name, child in module.named_modules() if isinstance(child, (nn.GroupNorm, nn.LayerNorm))
    }
    for name, parameter in module.named_parameters():
        shape = tuple(parameter.shape)
        value = torch.empty(shape, dtype=dtype, device=generator.device)
        if name in norms:
            value.fill_(1.0)
        elif name.endswith("bias"):
            value.zero_()
        elif "embedding" in name and "patch" not in name and "linear" not in name:
            value.normal_(0.0, 0.02, generator=generator)
        else:
            value.normal_(0.0, math.prod(shape[1:]) ** -0.5, generator=generator)
        yield name, value.cpu()


def _write_rest(path: Path) -> None:
    from pm.toon.base import build_tokenizer  # small, and every word of the drawn people's captions is in it

    (path / "scheduler").mkdir(parents=True, exist_ok=True)
    write_json(path / "scheduler" / "scheduler_config.json", _NOISE)
    for name, pad in (("tokenizer", "<|endoftext|>"), ("tokenizer_2", "!")):
        build_tokenizer(pad).save_pretrained(path / name)
    write_json(path / "model_index.json", _INDEX)
