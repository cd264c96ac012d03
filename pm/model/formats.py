"""Adapters for other people's loaders."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from pm.errors import CheckpointError
from pm.files import open_atomic, replace_folder
from pm.model.adapter_file import ID_PREFIX, LORA_PREFIX, AdapterMeta, save_adapter, strip

ID_ENCODER = "id_encoder.safetensors"


def save_published(path: str | Path, state: Mapping[str, Tensor]) -> None:
    """Write the `{"id_encoder", "lora_weights"}` file that the published code loads, atomically.

    It holds tensors in plain dicts only, so `torch.load(weights_only=True)` reads it.
    """
    content = {"id_encoder": strip(state, ID_PREFIX), "lora_weights": strip(state, LORA_PREFIX)}
    with open_atomic(path, "wb") as stream:
        torch.save({part: {k: v.contiguous() for k, v in tensors.items()} for part, tensors in content.items()}, stream)


def save_diffusers(path: str | Path, state: Mapping[str, Tensor], meta: AdapterMeta) -> None:
    """Write a folder that diffusers' `load_lora_weights` takes, atomically.

    The id encoder, which diffusers has no place for, lies beside the LoRA as `id_encoder.safetensors`, with the
    adapter's metadata.

    Raises:
        CheckpointError: the folder is there already.
    """
    from diffusers.loaders import StableDiffusionXLLoraLoaderMixin  # the pipeline's import warns of torchvision

    target = Path(path)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise CheckpointError(f"{target} is there already; remove it or give another output=")
    with replace_folder(target) as temporary:
        lora = strip(strip(state, LORA_PREFIX), "unet.")
        StableDiffusionXLLoraLoaderMixin.save_lora_weights(temporary, unet_lora_layers=lora)
        save_adapter(temporary / ID_ENCODER, {k: v for k, v in state.items() if k.startswith(ID_PREFIX)}, meta)
        for file in temporary.iterdir():
            file.chmod(0o644)
