"""The adapter file: one safetensors with string metadata, of any kind of adapter (`pm.model.kinds`).

PhotoMaker's has the prefixes `id_encoder.` and `lora_weights.`, and the published loader reads it as it is. Published
files, which have no metadata, are recognised by their keys, also those that are pickles of tensors.
"""

import hashlib
import json
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor

from pm.errors import CheckpointError, ConfigError
from pm.files import replace_file
from pm.model.compose.base import ComposeChoice, compose_from_text, compose_to_text
from pm.model.config import ID_PREFIX, LORA_PREFIX, AdapterConfig, Merge
from pm.model.kinds.base import PHOTOMAKER, claimed_by, kind_of
from pm.model.lora import adapter_type, lora_shape
from pm.weights import check_weights, is_pickle

__all__ = ["ID_PREFIX", "LORA_PREFIX", "AdapterMeta", "digest", "load_adapter", "read_head", "save_adapter", "strip"]
FORMAT = "photomaker-adapter-1"


@dataclass(frozen=True)
class AdapterMeta:
    """What a loader must know to use the weights. Stored as strings; numbers and dicts as JSON."""

    base_fingerprint: str  # of the base it was trained on; "" if unknown (published weights)
    compose: ComposeChoice
    merge: Merge | Literal["attention"]  # attention: beside the text (image prompts)
    trigger_word: str
    max_id_images: int
    crop_mode: str  # how ID photos were prepared: e.g. "face+mask"; "none" for the published weights
    project_version: str
    vision_config: dict[str, Any]  # shape of the vision tower, so that its own folder is not needed
    extra: dict[str, Any]  # free: step, run name, ...
    kind: str = PHOTOMAKER  # a part of `pm.model.kinds`; files of earlier versions do not say
    settings: dict[str, Any] = field(default_factory=dict)  # of that kind

    def config(self, state: Mapping[str, Tensor], *, gradient_checkpointing: bool = False) -> AdapterConfig:
        """The configuration to build a `PhotoMaker` for these weights; nothing in the vision tower trains."""
        if self.merge == "attention":
            raise CheckpointError(f"an adapter of the kind {self.kind} does not merge into text")
        lora = strip(state, LORA_PREFIX)
        rank, targets = lora_shape(lora)
        return AdapterConfig(
            compose=self.compose,
            merge=self.merge,
            lora_rank=rank,
            lora_targets=targets,
            train_layers=0,
            max_id_images=self.max_id_images,
            trigger_word=self.trigger_word,
            gradient_checkpointing=gradient_checkpointing,
            lora_type=adapter_type(lora),
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
    """Read an adapter of any kind: ours, or a published file (which has no metadata).

    Args:
        source: a file, or the content of a published `.bin`, for example {"id_encoder": ..., "lora_weights": ...}.

    Returns:
        the flat state dict in our names, on the CPU, and the metadata.

    Raises:
        CheckpointError: missing, damaged, not an adapter, not finite, or a pickle that holds more than tensors.
    """
    path, (state, strings) = _read(source)
    state, meta = _identified(path, state, strings)
    broken = next((k for k, v in state.items() if v.is_floating_point() and not torch.isfinite(v).all()), None)
    if broken is not None:
        raise CheckpointError(f"adapter {path} holds NaN or infinity in {broken}; export it again from a good step")
    return state, meta


def read_head(source: str | Path) -> tuple[AdapterMeta, int | None]:
    """What an adapter file says of itself; its weights are mapped, not read.

    Returns:
        the metadata, and D, the width of the text features that it was made for; None: nothing says so.

    Raises:
        CheckpointError: as `load_adapter`, except that weights may be NaN.
    """
    path, (state, strings) = _read(source, mapped=True)
    state, meta = _identified(path, state, strings)
    return meta, kind_of(meta.kind).width(state)


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


def _identified(
    path: str, state: Mapping[str, Tensor], strings: Mapping[str, str]
) -> tuple[dict[str, Tensor], AdapterMeta]:
    """The weights in our names, and the metadata, which a published file does not have."""
    if "base_fingerprint" in strings:
        meta = _parse_meta(path, strings)
        return kind_of(meta.kind).check(state, path), meta
    kind = claimed_by(state.keys()) or kind_of(PHOTOMAKER)
    return kind.published(state, path)


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
    """Dicts of tensors by their names joined with a dot."""
    parts: dict[str, Any] = dict(content) if isinstance(content, Mapping) else {"": None}
    found: dict[str, Any] = {}
    for part, value in parts.items():
        found |= {f"{part}.{key}": each for key, each in value.items()} if isinstance(value, Mapping) else {part: value}
    if not found or not all(isinstance(each, Tensor) for each in found.values()):
        raise CheckpointError(f"{name} is not a PhotoMaker adapter: it must hold the dicts id_encoder and lora_weights")
    return found


def _parse_meta(path: str | Path, strings: Mapping[str, str]) -> AdapterMeta:
    texts = ("base_fingerprint", "trigger_word", "crop_mode", "project_version")
    try:
        if strings["merge"] not in (*get_args(Merge), "attention"):
            raise ValueError(f"merge={strings['merge']!r}")
        return AdapterMeta(
            **{name: strings[name] for name in texts},
            compose=compose_from_text(strings["compose"]),
            merge=cast(Merge, strings["merge"]),
            max_id_images=int(strings["max_id_images"]),
            vision_config=json.loads(strings["vision_config"]),
            extra=json.loads(strings["extra"]),
            kind=_known(strings.get("kind", PHOTOMAKER)),
            settings=json.loads(strings.get("settings", "{}")),
        )
    except ConfigError as error:
        raise CheckpointError(f"adapter {path}: {error}") from error
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"adapter {path} has damaged metadata ({error!r}); export it again") from error


def _known(kind: str) -> str:
    kind_of(kind)
    return kind
