"""Checkpoints in one file, as communities share them: turned into a folder in the diffusers layout, once.

The folder is what everything else here reads, also on workers. It takes as much disk as the file, and stands in the
user's cache (`XDG_CACHE_HOME`, else `~/.cache`) under a name that is made of the file's content.
"""

import hashlib
import os
from pathlib import Path
from typing import Any

from pm.errors import CheckpointError, reason
from pm.files import replace_folder, writing
from pm.model.files import hash_weights, quiet_loading
from pm.weights import check_weights

_SDXL, _SD = "conditioner.embedders.1.", "cond_stage_model."  # what names of text encoder weights start with


def unpack(file: str | Path, config: str | Path | None = None) -> Path:
    """The folder of a checkpoint.

    Args:
        file: `.safetensors` of Stable Diffusion XL, 1.x or 2.x, with the names of the original code.
        config: folder or Hub id with the configs and tokenizers of such a model; None: the Hub's, for its kind.

    Raises:
        CheckpointError: another file, damaged, or its configs cannot be had.
    """
    path = Path(file).expanduser()
    if path.suffix != ".safetensors":
        raise CheckpointError(f"{path} is no .safetensors file; pickled checkpoints can run code: convert it")
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist")
    check_weights(path)
    digest = hashlib.sha256(str(config or "").encode())
    hash_weights(digest, path)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "photomaker" / "checkpoints"
    folder = cache / digest.hexdigest()[:16]
    if (folder / "model_index.json").is_file():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    _convert(path, config, folder)
    return folder


def _convert(path: Path, config: str | Path | None, folder: Path) -> None:
    kind, dtype = _kind(path)
    quiet_loading()
    there = None if config is None else str(Path(config).expanduser() if Path(config).expanduser().is_dir() else config)
    local = {} if there is None else {"config": there, "local_files_only": Path(there).is_dir()}
    try:
        pipeline = kind.from_single_file(str(path), torch_dtype=dtype, **local)
    except Exception as error:  # the libraries raise a dozen types for "not found", "offline" and "another model"
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint ({reason(error)}); give config=<folder or Hub id of such a model>"
        ) from error
    with writing(folder), replace_folder(folder) as partial:
        pipeline.save_pretrained(partial)


def _kind(path: Path) -> tuple[Any, Any]:
    """The pipeline of diffusers that reads it, and its dtype."""
    import diffusers
    from safetensors import safe_open

    with safe_open(str(path), framework="pt") as stream:
        names = list(stream.keys())
        for start, kind in ((_SDXL, "StableDiffusionXLPipeline"), (_SD, "StableDiffusionPipeline")):
            found = next((name for name in names if name.startswith(start)), None)
            if found is not None:
                return getattr(diffusers, kind), stream.get_tensor(found).dtype
    raise CheckpointError(f"{path} is no checkpoint of Stable Diffusion (no weight starts with {_SDXL} or {_SD})")
