"""Models on disk: where they are, whether they are whole, and which one it is."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pm.errors import CheckpointError, reason
from pm.weights import check_weights

_SAMPLES, _SAMPLE_BYTES = 16, 4096
# Written by whoever saved the files; a copy saved again by another version is still the same model.
_VOLATILE = ("_name_or_path", "_diffusers_version", "transformers_version", "torch_dtype", "dtype")


def resolve_folder(path: str, *, part_folders: bool = False) -> Path:
    """The local folder of a base model or vision tower; a Hub id is fetched (safetensors only) or found in the cache.

    With `part_folders` weights beside `model_index.json` are left out: there, repositories keep a second copy of the
    whole model in one file.

    Raises:
        CheckpointError: neither a folder nor a Hub id that can be had.
    """
    folder = folder_unless_hub_id(
        path, f"{path} is not a folder; give a folder in the diffusers layout or a Hub id like owner/name"
    )
    if folder is not None:
        return folder
    from huggingface_hub import snapshot_download

    wanted = ["*.json", "*.txt", "*/*.safetensors" if part_folders else "*.safetensors"]
    unwanted = ["*onnx*", "*openvino*", "*flax*", "*.fp16.safetensors", "*.non_ema.safetensors", "vae_*/*"]
    unwanted += ["safety_checker/*"]
    try:
        return Path(snapshot_download(path, allow_patterns=wanted, ignore_patterns=unwanted))
    except Exception as error:  # the client raises a dozen types for "not found", "offline" and "not allowed"
        raise CheckpointError(
            f"{path} is neither a folder nor a model that can be fetched ({reason(error)})"
        ) from error


def folder_unless_hub_id(path: str, otherwise: str) -> Path | None:
    """The folder that `path` names; None where it names a model of the Hub.

    Raises:
        CheckpointError: it can be neither, with the message `otherwise`.
    """
    folder = Path(path).expanduser()
    if folder.is_dir():
        return folder
    if path.count("/") != 1 or path.startswith((".", "/", "~")):
        raise CheckpointError(otherwise)
    return None


def read_json(path: Path) -> dict[str, Any]:
    """Read a config file.

    Raises:
        CheckpointError: missing or not JSON.
    """
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing; the base model is incomplete, copy or download it again") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is not readable JSON ({error}); copy or download the base again") from error


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that hold a part's weights: the plain ones, else those of the fp16 variant, sorted.

    Raises:
        CheckpointError: none there, or one is damaged.
    """
    files = sorted(folder.glob("*.safetensors"))
    others = (".fp16", ".non_ema")
    plain = [f for f in files if not any(o in f.name for o in others) and not f.name.startswith("openvino")]
    if not files:
        raise CheckpointError(
            f"{folder} has no .safetensors file; the base is incomplete (pickled weights are not read)"
        )
    for file in plain or files:
        check_weights(file)
    return plain or files


def weight_variant(folder: Path) -> str | None:
    """`"fp16"` when only that variant is there, else None: the `variant` of `from_pretrained`."""
    return "fp16" if ".fp16" in weight_files(folder)[0].name else None


def parts_fingerprint(folder: Path, parts: Sequence[str]) -> str:
    """16 hex digits that identify a base model, the same for every copy of it; cheap even for SDXL.

    Hashes the configs, and of each weight file the safetensors header (names, shapes, dtypes), the size and 16 evenly
    spaced samples of 4 KiB. A fine-tuned model, or the same one in another precision, has another fingerprint.

    Args:
        folder: of the base.
        parts: folders of its parts with weights; their order counts.

    Raises:
        CheckpointError: the folder is incomplete or a file damaged.
    """
    digest = hashlib.sha256()
    for part in parts:
        config = {k: v for k, v in read_json(folder / part / "config.json").items() if k not in _VOLATILE}
        digest.update(f"{part}:{json.dumps(config, sort_keys=True)}".encode())
        for file in weight_files(folder / part):
            hash_weights(digest, file)
    return digest.hexdigest()[:16]


def folder_fingerprint(path: str | Path) -> str:
    """16 hex digits of a single model folder, such as a vision tower: as `fingerprint`, for its one part."""
    folder = resolve_folder(str(path))
    config = {k: v for k, v in read_json(folder / "config.json").items() if k not in _VOLATILE}
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for file in weight_files(folder):
        hash_weights(digest, file)
    return digest.hexdigest()[:16]


def unreadable(folder: Path, error: Exception) -> CheckpointError:
    """The one message for a model's folder that a library cannot load: what is wrong with its files, if they tell."""
    try:
        for file in sorted(folder.glob("*.safetensors")):
            check_weights(file)
    except CheckpointError as found:
        return found
    return CheckpointError(f"{folder} cannot be loaded ({reason(error)}); copy or download it again")


def hash_weights(digest: Any, file: Path) -> None:
    """Feed a digest with what tells a weight file from others: header, size and samples."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        header_size = int.from_bytes(stream.read(8), "little")
        digest.update(str(size - 8 - header_size).encode())
        # `__metadata__` differs between writers, the tensors' names, shapes and offsets do not.
        header = json.loads(stream.read(header_size))
        header.pop("__metadata__", None)
        digest.update(json.dumps(header, sort_keys=True).encode())
        start, body = 8 + header_size, size - 8 - header_size
        for i in range(_SAMPLES):
            stream.seek(start + max(0, body - _SAMPLE_BYTES) * i // (_SAMPLES - 1))
            digest.update(stream.read(_SAMPLE_BYTES))


def quiet_loading() -> None:
    """Switch off the libraries' own bars for loading weights: many short ones, in the middle of ours."""
    import diffusers.utils.logging
    import transformers.utils.logging

    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
