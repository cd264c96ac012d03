"""What a training worker knows about the others: rank, report, restore. One interface, with and without Ray."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from pm.train.checkpoint import newest_complete

CHECKPOINTS = "checkpoints"  # folder inside a run


def checkpoint_name(step: int) -> str:
    """Folder name of the checkpoint after `step` updates; sorts by step."""
    return f"step-{step:08d}"


class TrainContext(Protocol):
    """One worker's view of the run."""

    rank: int
    workers: int
    device: torch.device
    run_dir: Path

    def report(self, step: int, metrics: Mapping[str, Any], folder: Path) -> None:
        """Keep a checkpoint: each rank hands over a local `folder` with its own files. Collective."""

    def restore(self) -> Path | None:
        """The newest checkpoint's folder, or None at the start of a run."""


class LocalContext:
    """One process, no cluster: for tests, debugging and notebooks."""

    rank, workers = 0, 1

    def __init__(self, run_dir: str | Path, num_to_keep: int | None = None, device: str = "cpu"):
        self.run_dir, self.device = Path(run_dir), torch.device(device)
        self._keep = num_to_keep

    def report(self, step: int, metrics: Mapping[str, Any], folder: Path) -> None:
        root = self.run_dir / CHECKPOINTS
        root.mkdir(parents=True, exist_ok=True)
        partial = root / f".{checkpoint_name(step)}"
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(folder, partial)
        shutil.rmtree(root / checkpoint_name(step), ignore_errors=True)
        partial.rename(root / checkpoint_name(step))
        for old in self._found()[: -self._keep] if self._keep else []:
            shutil.rmtree(old)

    def restore(self) -> Path | None:
        return next(reversed(self._found()), None)

    def _found(self) -> list[Path]:
        return sorted((self.run_dir / CHECKPOINTS).glob("step-*"))


class RayContext:
    """A Ray Train worker; Ray uploads, registers and prunes the checkpoints."""

    def __init__(self, run_dir: str | Path):
        import ray.train
        import ray.train.torch

        context = ray.train.get_context()
        self.rank, self.workers = context.get_world_rank(), context.get_world_size()
        self.local_workers = context.get_local_world_size()
        self.device = ray.train.torch.get_device()
        self.run_dir = Path(run_dir)

    def report(self, step: int, metrics: Mapping[str, Any], folder: Path) -> None:
        import ray.train

        checkpoint = ray.train.Checkpoint.from_directory(str(folder))
        ray.train.report(dict(metrics), checkpoint=checkpoint, checkpoint_dir_name=checkpoint_name(step))

    def restore(self) -> Path | None:
        import ray.train

        checkpoint = ray.train.get_checkpoint()
        # Without an entry in Ray's list (see `launch._repair_snapshot`) the folders are looked at.
        return Path(checkpoint.path) if checkpoint is not None else newest_complete(self.run_dir / CHECKPOINTS)
