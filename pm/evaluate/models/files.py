"""Weights of the models that measure: where they are, what is in them, and which they are."""

import hashlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from pm.errors import CheckpointError, install_hint, reason
from pm.evaluate.metrics.base import Model
from pm.photo.embedders.embed import EmbedderChoice
from pm.photo.faces.detect import FaceChoice
from pm.weights import check_weights, fingerprint, is_pickle

M = TypeVar("M", bound=torch.nn.Module)
_SHIPPED = Path(__file__).parent / "weights"  # where they come from says its NOTICE
_WHOLE = ("model.safetensors", "pytorch_model.bin")


def shipped(file: str) -> Path:
    """Weights that come with the project."""
    return _SHIPPED / file


def packaged(package: str, file: str) -> Path:
    """Weights that a package of the extra `metrics` brings, which is located and never imported.

    Args:
        package: its name for `import`.
        file: path inside it.

    Raises:
        CheckpointError: it is not installed.
    """
    spec = importlib.util.find_spec(package)
    path = Path(spec.origin).parent / file if spec and spec.origin else None
    if path is None or not path.is_file():
        raise CheckpointError(
            f"the package {package} with {Path(file).name} is not installed; run {install_hint('metrics')}"
        )
    return path


def weight_file(path: str, publisher: str = "") -> Path:
    """One file of weights.

    Args:
        path: a file; a folder or Hub id (`owner/name`), of which `model.safetensors` or `pytorch_model.bin` is taken;
            or a file in a repository of the Hub (`owner/name/file.pth`).
        publisher: who has it, for messages.

    Raises:
        CheckpointError: it is not there and cannot be fetched.
    """
    local = Path(path).expanduser()
    if local.is_file():
        return local
    if local.is_dir():
        for name in _WHOLE:
            if (local / name).is_file():
                return local / name
        raise CheckpointError(f"path={path} holds none of {', '.join(_WHOLE)}; give the file itself")
    words = path.split("/")
    if len(words) < 2 or path.startswith((".", "/", "~")) or not all(words):
        known = f" (from {publisher})" if publisher else ""
        raise CheckpointError(
            f"path={path} is not there; give the file of its weights{known}, or a Hub id like owner/name"
        )
    return _fetched(path, "/".join(words[:2]), ["/".join(words[2:])] if words[2:] else list(_WHOLE))


def _fetched(path: str, repository: str, names: Sequence[str]) -> Path:
    from huggingface_hub import hf_hub_download

    error: Exception = FileNotFoundError(path)
    for name in names:
        try:
            return Path(hf_hub_download(repository, name))
        except Exception as found:  # a dozen types for "not found", "offline" and "not allowed"
            error = found
    raise cannot_fetch(path, error) from error


def cannot_fetch(path: str, error: Exception) -> CheckpointError:
    """The one message for a model that is neither here nor on the Hub."""
    return CheckpointError(
        f"path={path} is neither here nor can be fetched from the Hub ({reason(error)}); with network access it "
        "is downloaded once, without it give the path of a local copy"
    )


def read_weights(file: Path) -> dict[str, Tensor]:
    """Tensors by name, on the CPU, from safetensors or a pickle of plain tensors.

    Raises:
        CheckpointError: the file is damaged, or holds anything else.
    """
    pickled = is_pickle(file)
    check_weights(file, plain_pickle=pickled)
    if not pickled:
        from safetensors.torch import load_file

        return load_file(file)
    try:
        found: Any = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # the library's own message tells to load it without that guard
        raise CheckpointError(f"{file} is no pickle of plain tensors; get a safetensors version of it") from error
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise CheckpointError(f"{file} does not hold tensors by name; give a file of weights (a state dict)")
    return dict(found)


def fill(module: M, weights: dict[str, Tensor], what: str) -> M:
    """Put weights into a module, frozen and in evaluation mode; names that it does not have are left out.

    Raises:
        CheckpointError: one that it needs is missing, or has another shape; names it and `what` was read.
    """
    needed = module.state_dict()
    for name, value in needed.items():
        if name.endswith("num_batches_tracked"):  # counts steps of training; older files lack it
            weights = weights | {name: value}
        elif name not in weights:
            raise CheckpointError(f"{what} has no {name}; it is another network's file")
        elif weights[name].shape != value.shape:
            shapes = f"{list(weights[name].shape)}, not {list(value.shape)}"
            raise CheckpointError(f"{what}: {name} is {shapes}; it is another network's file")
    module.load_state_dict({name: weights[name] for name in needed})
    return module.eval().requires_grad_(False)


def model_of(name: str, *files: Path) -> Model:
    """A model's name and the fingerprint of its files."""
    return Model(name, fingerprint(*files))


def fingerprint_of_parts(*parts: FaceChoice | EmbedderChoice) -> str:
    """The same of the weights of detectors and embedders; of those without, the settings count instead."""
    digest = hashlib.sha256()
    for part in parts:
        files = part.weights()
        digest.update(fingerprint(*files).encode() if files else repr(part).encode())
    return digest.hexdigest()[:16]


def joined(*models: Model) -> Model:
    """Several that gave a value together."""
    digest = hashlib.sha256("".join(model.fingerprint for model in models).encode()).hexdigest()
    return Model(" + ".join(model.name for model in models), digest[:16])


def short_name(path: str) -> str:
    """What to call a model: its Hub id, or the last part of a local path."""
    return Path(path).expanduser().resolve().name if Path(path).expanduser().exists() else path
