"""The adapter file: one safetensors with the prefixes `id_encoder.` and `lora_weights.`, and string metadata.

The published loader reads it as it is. We also read the published `.bin` ({"id_encoder", "lora_weights"}).
"""

import hashlib
import json
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast, get_args

import torch
from torch import Tensor

from pm.errors import CheckpointError, ConfigError
from pm.files import replace_file
from pm.model.compose.base import ComposeChoice, compose_from_text, compose_to_text
from pm.model.compose.stacked import Stacked
from pm.model.config import AdapterConfig, Merge
from pm.model.id_encoder import PUBLISHED_VISION
from pm.model.lora import lora_shape, normalise_lora
from pm.weights import check_weights, is_pickle

ID_PREFIX, LORA_PREFIX = "id_encoder.", "lora_weights."
FORMAT = "photomaker-adapter-1"


@dataclass(frozen=True)
class AdapterMeta:
    """What a loader must know to use the weights. Stored as strings; numbers and dicts as JSON."""

    base_fingerprint: str  # of the base it was trained on; "" if unknown (published weights)
    compose: ComposeChoice
    merge: Merge
    trigger_word: str
    max_id_images: int
    crop_mode: str  # how ID photos were prepared: e.g. "face+mask"; "none" for the published weights
    project_version: str
    vision_config: dict[str, Any]  # shape of the vision tower, so that its own folder is not needed
    extra: dict[str, Any]  # free: step, run name, ...

    def config(self, state: Mapping[str, Tensor], *, gradient_checkpointing: bool = False) -> AdapterConfig:
        """The configuration to build a `PhotoMaker` for these weights; nothing in the vision tower trains."""
        rank, targets = lora_shape(strip(state, LORA_PREFIX))
        return AdapterConfig(
            compose=self.compose,
            merge=self.merge,
            lora_rank=rank,
            lora_targets=targets,
            train_layers=0,
            max_id_images=self.max_id_images,
            trigger_word=self.trigger_word,
            gradient_checkpointing=gradient_checkpointing,
        )


def save_adapter(path: str | Path, state: Mapping[str, Tensor], meta: AdapterMeta) -> None:
    """Write the adapter file atomically."""
    from safetensors.torch import save_file

    strings = {k: v if isinstance(v, str) else json.dumps(v) for k, v in asdict(meta).items()}
    strings["compose"] = compose_to_text(meta.compose)
    # safetensors writes for the owner alone; a server may run as somebody else.
    with replace_file(path, mode=0o644) as temporary:
        save_file({k: v.contiguous() for k, v in state.items()}, temporary, metadata={"format": FORMAT, **strings})


def load_adapter(source: str | Path | Mapping[str, Any]) -> tuple[dict[str, Tensor], AdapterMeta]:
    """Read an adapter: ours, or the published `.bin` / safetensors (which have no metadata: stacked, repeat, "img").

    Args:
        source: a file, or the content of a published `.bin`: {"id_encoder": ..., "lora_weights": ...}.

    Returns:
        the flat state dict with the prefixes `id_encoder.` and `lora_weights.`, on the CPU, and the metadata.

    Raises:
        CheckpointError: missing, damaged, not an adapter, not finite, or a pickle that holds more than tensors.
    """
    path, (state, strings) = _read(source)
    _check_keys(path, state)
    encoder, lora = strip(state, ID_PREFIX), strip(state, LORA_PREFIX)
    # A buffer that older transformers saved; it only counts positions.
    encoder.pop("vision_model.embeddings.position_ids", None)
    state = {ID_PREFIX + k: v for k, v in encoder.items()}
    state |= {LORA_PREFIX + k: v for k, v in normalise_lora(lora).items()}
    broken = next((k for k, v in state.items() if v.is_floating_point() and not torch.isfinite(v).all()), None)
    if broken is not None:
        raise CheckpointError(f"adapter {path} holds NaN or infinity in {broken}; export it again from a good step")
    return state, _meta(path, state, strings)


def read_head(source: str | Path) -> tuple[AdapterMeta, int | None]:
    """What an adapter file says of itself; its weights are mapped, not read.

    Returns:
        the metadata, and D, the width of the text features that it was made for; None: nothing says so.

    Raises:
        CheckpointError: as `load_adapter`, except that weights may be NaN.
    """
    path, (state, strings) = _read(source, mapped=True)
    _check_keys(path, state)
    norm = state.get(f"{ID_PREFIX}fuse_module.layer_norm.weight")
    return _meta(path, state, strings), None if norm is None else norm.shape[0]


def strip(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The entries under `prefix`, without it."""
    return {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}


def digest(state: Mapping[str, Tensor]) -> str:
    """16 hex digits of all weights, whatever file they came from."""
    sha = hashlib.sha256()
    for key in sorted(state):
        sha.update(key.encode())
        sha.update(state[key].contiguous().flatten().view(torch.uint8).numpy().data)
    return sha.hexdigest()[:16]


def _read(
    source: str | Path | Mapping[str, Any], *, mapped: bool = False
) -> tuple[str, tuple[dict[str, Tensor], dict[str, str]]]:
    """The name for messages, and the state dict with the file's metadata; safetensors are mapped in any case."""
    if isinstance(source, Mapping):
        return "state dict", (_flat(source, "the state dict"), {})
    file = Path(source).expanduser()
    if not file.is_file():
        raise CheckpointError(f"adapter {source} does not exist; give an adapter.safetensors or a published .bin file")
    pickled = is_pickle(file)
    check_weights(file, plain_pickle=pickled)
    return str(source), _read_bin(file, mapped) if pickled else _read_safetensors(file)


def _check_keys(path: str, state: Mapping[str, Tensor]) -> None:
    odd = [key for key in state if not key.startswith((ID_PREFIX, LORA_PREFIX))]
    if odd or not strip(state, ID_PREFIX) or not strip(state, LORA_PREFIX):
        found = odd[0] if odd else "nothing else"
        raise CheckpointError(
            f"{path} is not a PhotoMaker adapter: keys must start with {ID_PREFIX} or {LORA_PREFIX}, found {found}"
        )


def _meta(path: str, state: Mapping[str, Tensor], strings: Mapping[str, str]) -> AdapterMeta:
    return _parse_meta(path, strings) if "base_fingerprint" in strings else _published_meta(state, path)


def _read_safetensors(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt", device="cpu") as opened:
            return {key: opened.get_tensor(key) for key in opened.keys()}, opened.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"adapter {file} is damaged ({error}); copy it again") from error


def _read_bin(file: Path, mapped: bool) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        # Torch maps its newer format only, which is a ZIP file.
        content = torch.load(file, map_location="cpu", weights_only=True, mmap=mapped and zipfile.is_zipfile(file))
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        # Torch's own words would have the user switch the check off.
        raise CheckpointError(
            f"adapter {file} is damaged, or holds more than tensors, which could run code; it is not loaded: "
            "get it as safetensors, or the file that the authors published"
        ) from error
    return _flat(content, str(file)), {}


def _flat(content: Any, name: str) -> dict[str, Tensor]:
    parts = ("id_encoder", "lora_weights")
    if not isinstance(content, Mapping) or any(not isinstance(content.get(part), Mapping) for part in parts):
        raise CheckpointError(f"{name} is not a PhotoMaker adapter: it must hold the dicts id_encoder and lora_weights")
    return {f"{part}.{key}": value for part in parts for key, value in content[part].items()}


def _parse_meta(path: str | Path, strings: Mapping[str, str]) -> AdapterMeta:
    texts = ("base_fingerprint", "trigger_word", "crop_mode", "project_version")
    try:
        if strings["merge"] not in get_args(Merge):
            raise ValueError(f"merge={strings['merge']!r}")
        return AdapterMeta(
            **{name: strings[name] for name in texts},
            compose=compose_from_text(strings["compose"]),
            merge=cast(Merge, strings["merge"]),
            max_id_images=int(strings["max_id_images"]),
            vision_config=json.loads(strings["vision_config"]),
            extra=json.loads(strings["extra"]),
        )
    except ConfigError as error:
        raise CheckpointError(f"adapter {path}: {error}") from error
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"adapter {path} has damaged metadata ({error!r}); export it again") from error


def _published_meta(state: Mapping[str, Tensor], path: str | Path) -> AdapterMeta:
    vision = _vision_config(strip(state, ID_PREFIX))
    if vision is None:
        raise CheckpointError(f"{path} has no metadata and no CLIP vision tower; is this a PhotoMaker v1 adapter?")
    return AdapterMeta(
        base_fingerprint="",
        compose=Stacked("stacked"),
        merge="repeat",
        trigger_word="img",
        max_id_images=16,  # trained with 1-4; its own pipeline takes any number
        crop_mode="none",
        project_version="published",
        vision_config=vision,
        extra={},
    )


def _vision_config(encoder: Mapping[str, Tensor]) -> dict[str, Any] | None:
    """Shape of a published adapter's tower; its heads are 64 wide, as in every CLIP."""
    tower, projection = strip(encoder, "vision_model."), encoder.get("visual_projection.weight")
    patch = tower.get("embeddings.patch_embedding.weight")
    position = tower.get("embeddings.position_embedding.weight")
    inner = tower.get("encoder.layers.0.mlp.fc1.weight")
    if patch is None or position is None or inner is None or projection is None:
        return None
    found = {
        "hidden_size": patch.shape[0],
        "intermediate_size": inner.shape[0],
        "num_hidden_layers": sum(key.endswith("mlp.fc1.weight") for key in tower),
        "patch_size": patch.shape[-1],
        "projection_dim": projection.shape[0],
        "image_size": round((position.shape[0] - 1) ** 0.5) * patch.shape[-1],
    }
    if all(PUBLISHED_VISION[name] == value for name, value in found.items()):
        return dict(PUBLISHED_VISION)
    heads = max(1, patch.shape[0] // 64)
    return PUBLISHED_VISION | found | {"num_attention_heads": heads}
