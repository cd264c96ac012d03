"""Models of the transformers library by Hub id or folder: each is loaded once in a process."""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pm.errors import CheckpointError, reason
from pm.evaluate.metrics.base import Model
from pm.evaluate.models.files import cannot_fetch, model_of, short_name
from pm.model.files import folder_unless_hub_id, quiet_loading
from pm.weights import check_weights

_BESIDE = ["*.json", "*.txt"]
_PICKLE = "pytorch_model.bin"


@dataclass(frozen=True)
class Loaded:
    """A frozen model, the folder it came from, and which it is."""

    module: Any
    folder: Path
    model: Model
    device: str

    def processor(self) -> Any:
        """What prepares images for it, by Pillow."""
        from transformers import AutoImageProcessor

        return _part(self.folder, lambda: AutoImageProcessor.from_pretrained(self.folder, backend="pil"))

    def tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        return _part(self.folder, lambda: AutoTokenizer.from_pretrained(self.folder))


@functools.lru_cache(maxsize=8)
def load_model(path: str, kind: str, device: str, **options: Any) -> Loaded:
    """A model by the name of its class in transformers.

    Args:
        path: folder or Hub id.
        kind: a class, for example "CLIPModel".
        device: where it runs.
        options: further ones of `from_pretrained`.

    Raises:
        CheckpointError: it is not there and cannot be fetched, or is another kind of model.
    """
    import transformers

    quiet_loading()
    folder = model_folder(path)
    files = model_files(folder)
    safe = files[0].suffix == ".safetensors"
    for file in files:
        check_weights(file, plain_pickle=not safe)
    cls = getattr(transformers, kind)
    try:
        module, info = cls.from_pretrained(folder, use_safetensors=safe, output_loading_info=True, **options)
    except (OSError, ValueError, RuntimeError, KeyError, ImportError) as error:
        raise CheckpointError(f"path={path} cannot be loaded as {kind} ({reason(error)})") from error
    if info["missing_keys"]:  # the library fills them with random numbers
        raise CheckpointError(f"path={path} is no {kind}: it has no {min(info['missing_keys'])}")
    module = module.float().to(device).eval().requires_grad_(False)
    return Loaded(module, folder, model_of(short_name(path), *files), device)


def model_folder(path: str) -> Path:
    """The local folder of a model: one that is there, or a Hub id's copy, with safetensors where it has them.

    Raises:
        CheckpointError: neither a folder nor a Hub id that can be had.
    """
    folder = folder_unless_hub_id(path, f"path={path} is not a folder; give a folder, or a Hub id like owner/name")
    if folder is not None:
        return folder
    from huggingface_hub import snapshot_download

    try:
        found = Path(snapshot_download(path, allow_patterns=[*_BESIDE, "*.safetensors"], ignore_patterns=["*/*"]))
        if not list(found.glob("*.safetensors")):
            found = Path(snapshot_download(path, allow_patterns=[*_BESIDE, _PICKLE]))
    except Exception as error:  # a dozen types for "not found", "offline" and "not allowed"
        raise cannot_fetch(path, error) from error
    return found


def model_files(folder: Path) -> list[Path]:
    """The files of its weights, sorted: safetensors, else the pickle of plain tensors.

    Raises:
        CheckpointError: there are none.
    """
    whole = folder / "model.safetensors"  # beside it may be the same in half precision
    files = [whole] if whole.is_file() else sorted(folder.glob("*.safetensors")) or sorted(folder.glob(_PICKLE))
    if not files:
        raise CheckpointError(f"{folder} has no .safetensors file and no {_PICKLE}; copy or download it again")
    return files


def _part(folder: Path, load: Any) -> Any:
    try:
        return load()
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{folder} lacks its processor or tokenizer ({reason(error)}); copy all of it") from error
