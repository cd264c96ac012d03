"""What a run needs to resume as if it had never stopped.

Whole, named float32 tensors in safetensors instead of DeepSpeed's own shards: those are pickles, and they fit only the
engine and the number of workers that wrote them. Frozen weights are never stored.

    state.safetensors           weights.<name>, exp_avg.<name>, exp_avg_sq.<name>, ema.<name>
    state.json                  step, updates, samples consumed, workers, metrics, base, dataset, project version
    rank-00000.safetensors      random generators of each worker
"""

import json
import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from pm.errors import CheckpointError
from pm.train.engine.base import MOMENTS, EngineState

VERSION = 3
LEAST_NOISY = "checkpoint_loss"  # metric of every checkpoint: the mean loss since the one before
_READABLE = (2, 3)  # 2 differs by the name of one entry
WRITE_ERRORS = (OSError, SafetensorError)  # safetensors wraps a full disk in its own error
_TENSORS, _META = "state.safetensors", "state.json"


@dataclass(frozen=True)
class Position:
    """Where a run stands."""

    step: int
    updates: int  # of the optimizer; fewer than steps where ZeRO left out updates with gradients that were not finite
    consumed: int  # samples, over all workers
    workers: int
    seconds: float  # of training so far
    metrics: dict[str, Any]  # the last log line
    provenance: dict[str, Any]  # base, dataset, project version, and the run's config; see `check_origin`
    version: int = VERSION


@dataclass
class Restored:
    """A checkpoint read back; tensors on the CPU."""

    position: Position
    engine: EngineState
    ema: dict[str, Tensor]


def write_checkpoint(folder: Path, position: Position, engine: EngineState, ema: Mapping[str, Tensor]) -> None:
    """Write rank 0's files."""
    tensors = {f"weights.{name}": value for name, value in engine.weights.items()}
    for key, values in engine.moments.items():
        tensors |= {f"{key}.{name}": value for name, value in values.items()}
    tensors |= {f"ema.{name}": value for name, value in ema.items()}
    save_file({name: value.contiguous() for name, value in tensors.items()}, folder / _TENSORS)
    (folder / _META).write_text(json.dumps(asdict(position)) + "\n")


def read_checkpoint(folder: Path) -> Restored:
    """Read everything but the random generators.

    Raises:
        CheckpointError: missing, damaged, or written by another version.
    """
    try:
        meta = read_meta(folder)
        tensors = load_file(folder / _TENSORS)
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(
            f"checkpoint {folder} cannot be read ({error}); delete it to resume from the previous one"
        ) from error
    if meta.get("version") not in _READABLE:
        raise CheckpointError(
            f"checkpoint {folder} has format {meta.get('version')}, this version reads {VERSION}; "
            "use the version that wrote it, or start another run with name="
        )
    try:
        position = Position(**meta | {"version": VERSION})
    except TypeError as error:
        raise CheckpointError(
            f"checkpoint {folder} is damaged ({error}); delete it to resume from the previous one"
        ) from None
    sections: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        section, name = key.split(".", 1)
        sections.setdefault(section, {})[name] = value
    moments = {key: sections[key] for key in MOMENTS if key in sections}
    return Restored(position, EngineState(position.updates, sections["weights"], moments), sections.get("ema", {}))


def read_meta(folder: Path) -> dict[str, Any]:
    """What `state.json` holds, by today's names."""
    meta = json.loads((folder / _META).read_text())
    if "made_for" in meta:  # format 2
        meta["provenance"] = meta.pop("made_for")
    return meta


def check_origin(folder: Path, then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to resume with another base or dataset than the checkpoint's; the project's version is only mentioned.

    Args:
        folder: the checkpoint.
        then: its provenance.
        now: the run's.

    Raises:
        CheckpointError: they differ.
    """
    for name, what in (("base", "base model"), ("dataset", "dataset")):
        if then.get(name) != now[name]:
            also = " (photos were added or removed since, perhaps by `forget`)" if name == "dataset" else ""
            raise CheckpointError(
                f"checkpoint {folder} of version {then.get('project')} was made with {what} {then.get(name)}, this run "
                f"has {now[name]}{also}; use that {what}, or start another run with name="
            )


def is_complete(folder: Path) -> bool:
    """Whether every file of a checkpoint is there and whole (a copy may have been cut off)."""
    try:
        workers = json.loads((folder / _META).read_text())["workers"]
        for file in [folder / _TENSORS, *(_rank_file(folder, rank) for rank in range(workers))]:
            with safe_open(file, framework="pt"):  # checks the length against the header
                pass
    except (OSError, ValueError, KeyError, SafetensorError):
        return False
    return True


def is_checkpoint(folder: Path) -> bool:
    """Whether the folder looks like a checkpoint, whole or not."""
    return (folder / _META).exists() or (folder / _TENSORS).exists()


def best_complete(root: Path) -> Path | None:
    """The whole checkpoint among `root/step-*` that is best by the run's `train.best_metric`.

    A run without one is judged by its mean loss since the checkpoint before, which every checkpoint has.

    Raises:
        CheckpointError: a checkpoint does not have the metric.
    """
    scores = {}
    for folder in sorted(root.glob("step-*")):
        if not is_complete(folder):
            continue
        meta = read_meta(folder)
        train = meta.get("provenance", {}).get("config", {}).get("train", {})
        metric = train.get("best_metric") or LEAST_NOISY
        sign = 1 if train.get("best_metric") and train.get("best_mode") == "max" else -1
        if metric not in meta["metrics"]:
            raise CheckpointError(f"checkpoint {folder} has no {metric}; use pick=newest")
        scores[folder] = sign * meta["metrics"][metric]
    return max(scores, key=scores.__getitem__, default=None)


def newest_complete(root: Path) -> Path | None:
    """The newest whole checkpoint among `root/step-*`."""
    return next((f for f in sorted(root.glob("step-*"), reverse=True) if is_complete(f)), None)


@dataclass(frozen=True)
class RngState:
    """The state of one worker's random generators: torch CPU and GPU, NumPy, Python."""

    tensors: dict[str, Tensor]
    rest: dict[str, list]

    @classmethod
    def now(cls) -> "RngState":
        """The generators as they are."""
        state: Any = np.random.get_state()  # of the old kind: a tuple
        kind, keys, position, has_gauss, gauss = state
        version, numbers, next_gauss = random.getstate()
        tensors = {"torch": torch.get_rng_state(), "numpy": torch.from_numpy(keys.view(np.int32).copy())}
        tensors["python"] = torch.from_numpy(np.array(numbers, dtype=np.uint32).view(np.int32))
        if torch.cuda.is_initialized():  # asking a GPU that this process does not use would take memory there
            tensors["cuda"] = torch.cuda.get_rng_state()
        return cls(tensors, {"numpy": [kind, position, has_gauss, gauss], "python": [version, next_gauss]})


def write_rng(folder: Path, rank: int, state: RngState | None = None) -> None:
    """Write the state of this worker's random generators; default: as they are now."""
    state = state or RngState.now()
    save_file(state.tensors, _rank_file(folder, rank), metadata={"rest": json.dumps(state.rest)})


def restore_rng(folder: Path, rank: int) -> bool:
    """Set this worker's random generators; False if the checkpoint had fewer workers."""
    file = _rank_file(folder, rank)
    if not file.exists():
        return False
    with safe_open(file, framework="pt") as opened:
        rest = json.loads(opened.metadata()["rest"])
        tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118 - not a mapping
    torch.set_rng_state(tensors["torch"])
    kind, position, has_gauss, gauss = rest["numpy"]
    np.random.set_state((kind, tensors["numpy"].numpy().view(np.uint32), position, has_gauss, gauss))
    version, next_gauss = rest["python"]
    random.setstate((version, tuple(tensors["python"].numpy().view(np.uint32).tolist()), next_gauss))
    if "cuda" in tensors and torch.cuda.is_initialized():
        torch.cuda.set_rng_state(tensors["cuda"])
    return True


def _rank_file(folder: Path, rank: int) -> Path:
    return folder / f"rank-{rank:05d}.safetensors"
