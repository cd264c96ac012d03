"""Models of the transformers library that stages use, loaded once in each worker."""

import functools
from typing import Any

import torch

from pm.errors import CheckpointError, reason
from pm.model.files import quiet_loading, resolve_folder
from pm.weights import check_weights


@functools.lru_cache(maxsize=2)  # the captioner's and the marker's may be in one worker
def load_pretrained(
    setting: str, path: str, model: str, processor: str, device: str, dtype: str = "float32"
) -> tuple[Any, Any]:
    """A frozen model and its processor (or tokenizer), by the names of their classes in transformers.

    Args:
        setting: what names the path in the configuration, for the error.
        path: Hub id or folder.

    Raises:
        CheckpointError: it is not there, or is another kind of model.
    """
    import transformers

    quiet_loading()
    folder = resolve_folder(path)
    for file in sorted(folder.glob("*.safetensors")):
        check_weights(file)
    try:
        prepared = getattr(transformers, processor).from_pretrained(folder)
        loaded = getattr(transformers, model).from_pretrained(folder, use_safetensors=True, dtype=getattr(torch, dtype))
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise CheckpointError(f"{setting}={path} cannot be loaded as {model} ({reason(error)})") from error
    return loaded.to(device).eval().requires_grad_(False), prepared
