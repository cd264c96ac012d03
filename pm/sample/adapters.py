"""Adapters on one base, by name: found, read, checked, and ready for sampling."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from pm.errors import CheckpointError, reason
from pm.model.adapter import load_id_encoder
from pm.model.adapter_file import LORA_PREFIX, AdapterMeta, digest, load_adapter, strip
from pm.model.base import BaseModel
from pm.model.files import read_json
from pm.model.fused import FusedLora
from pm.model.photomaker import IdConditioner
from pm.sample.checks import Terms

_USUAL_FILES = ("adapter.safetensors", "photomaker-v1.bin", "photomaker-v1.safetensors")


@dataclass(frozen=True)
class Adapter:
    """One adapter, ready to condition rows."""

    name: str
    conditioner: IdConditioner
    lora: FusedLora | None  # None: in training, where the LoRA sits in the U-Net itself
    meta: AdapterMeta | None
    digest: str  # of the weights
    trigger_word: str

    @property
    def terms(self) -> Terms:
        """What it asks of a request."""
        return Terms.of(self.conditioner.config, self.trigger_word)

    @property
    def max_id_images(self) -> int:
        return self.conditioner.config.max_id_images


def read_adapter(
    base: BaseModel,
    source: str | Path | Mapping[str, Any],
    name: str,
    *,
    trigger_word: str | None = None,
    check_base: bool = True,
) -> Adapter:
    """Read an adapter for a base that is loaded with its U-Net; the base itself is not touched.

    Raises:
        CheckpointError: missing, damaged, or it does not fit the base.
    """
    state, meta = load_adapter(source)
    if not meta.base_fingerprint:
        meta = _with_heads(meta, base)
    with torch.device("meta"):  # its weights come from the file: drawing random ones would take longer than reading
        conditioner = IdConditioner(base, meta.config(state), vision_config=meta.vision_config)
    conditioner = conditioner.to_empty(device="cpu")
    _refill_buffers(conditioner)
    load_id_encoder(conditioner, state, meta, check_base=check_base)
    conditioner.requires_grad_(False).to(base.unet.device, base.unet.dtype).eval()
    lora = FusedLora(base.unet, base.family.lora_prefix, strip(state, LORA_PREFIX))
    return Adapter(name, conditioner, lora, meta, digest(state), trigger_word or meta.trigger_word)


def find_adapter(place: str | Path, weight_name: str | None, subfolder: str, **hub: Any) -> Path:
    """The file that `place` means: a file, a folder and a name in it, or a Hub id and a name in it.

    Raises:
        CheckpointError: nothing there.
    """
    path = Path(place).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        folder = path / subfolder
        names = [weight_name] if weight_name else _USUAL_FILES
        found = next((folder / name for name in names if (folder / name).is_file()), None)
        if found is None:
            raise CheckpointError(f"{folder} holds no {' or '.join(names)}; give weight_name=<file in that folder>")
        return found
    a_file = str(place).startswith((".", "/", "~")) or path.suffix in (".safetensors", ".bin", ".pt", ".pth")
    if a_file or str(place).count("/") != 1:
        raise CheckpointError(f"adapter {place} does not exist; give a file, a folder, or a Hub id like owner/name")
    from huggingface_hub import hf_hub_download

    name = weight_name or _USUAL_FILES[1]
    try:
        return Path(hf_hub_download(str(place), name, subfolder=subfolder or None, **hub))
    except Exception as error:  # the client raises a dozen types for "not found", "offline" and "not allowed"
        raise CheckpointError(
            f"{place} is neither a file nor can {name} be fetched from there ({reason(error)})"
        ) from error


def _with_heads(meta: AdapterMeta, base: BaseModel) -> AdapterMeta:
    """A published adapter says nothing of its tower's attention heads; the base's own tower of that shape does."""
    file = Path(base.vision_path).expanduser() / "config.json"
    if not base.vision_path or not file.is_file():
        return meta
    own = {name: value for name, value in read_json(file).items() if name in meta.vision_config}
    guessed = ("num_attention_heads", "hidden_act")
    if any(meta.vision_config[name] != value for name, value in own.items() if name not in guessed):
        return meta
    return replace(meta, vision_config=meta.vision_config | own)


def _refill_buffers(conditioner: IdConditioner) -> None:
    """Buffers that are in no file: CLIP counts its positions."""
    embeddings = conditioner.id_encoder.vision_model.embeddings
    embeddings.position_ids.copy_(torch.arange(embeddings.position_ids.shape[-1])[None])
