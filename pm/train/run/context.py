"""What a training worker knows about the others: rank, report, restore. One interface, with and without Ray."""

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Protocol

import torch

from pm.errors import CheckpointError, WriteError
from pm.files import replace_folder
from pm.train.checkpoint import WRITE_ERRORS, is_complete, newest_complete
from pm.train.run.summary import CHECKPOINTS, STOP

_LOOK_SECONDS, _ASK_SECONDS = 0.25, 5.0


def checkpoint_name(step: int) -> str:
    """Folder name of the checkpoint after `step` updates; sorts by step."""
    return f"step-{step:08d}"


class TrainContext(Protocol):
    """One worker's view of the run."""

    rank: int
    workers: int
    local_workers: int  # on this machine
    device: torch.device
    run_dir: Path

    def report(self, step: int, metrics: Mapping[str, Any], write: Callable[[Path], None]) -> None:
        """Keep a checkpoint: `write` puts this rank's files into a folder, perhaps later and in a thread. Collective.

        Raises:
            CheckpointError: an earlier one or this could not be written.
        """

    def restore(self) -> Path | None:
        """The newest whole checkpoint's folder, or None at the start of a run."""

    def stop_requested(self) -> bool:
        """Whether somebody asked this run to save and end; cheap, asked on rank 0 before every step."""

    def should_ask(self) -> bool:
        """Whether it is time for `preempted`; asked on rank 0 before every step."""

    def preempted(self) -> bool:
        """Whether a node of this run will be taken away soon, for the first time. Collective."""


class LocalContext:
    """One process, no cluster: for tests, debugging and notebooks."""

    rank, workers, local_workers = 0, 1, 1

    def __init__(self, run_dir: str | Path, num_to_keep: int | None = None, device: str = "cpu"):
        self.run_dir, self.device = Path(run_dir), torch.device(device)
        self._keep = num_to_keep
        self._stop = StopFile(self.run_dir)

    def report(self, step: int, metrics: Mapping[str, Any], write: Callable[[Path], None]) -> None:
        root = self.run_dir / CHECKPOINTS
        try:
            with replace_folder(root / checkpoint_name(step)) as folder:
                write(folder)
        except (WriteError, *WRITE_ERRORS) as error:
            raise not_written(root / checkpoint_name(step), error) from error
        for old in self._found()[: -self._keep] if self._keep else []:
            shutil.rmtree(old)

    def restore(self) -> Path | None:
        return newest_complete(self.run_dir / CHECKPOINTS)

    def stop_requested(self) -> bool:
        return self._stop.is_there()

    def should_ask(self) -> bool:
        return False

    def preempted(self) -> bool:
        return False

    def _found(self) -> list[Path]:
        return sorted((self.run_dir / CHECKPOINTS).glob("step-*"))


class RayContext:
    """A Ray Train worker; Ray uploads, registers and prunes the checkpoints."""

    def __init__(self, run_dir: str | Path, remote: Any = None):
        """`remote`: the `RemoteFolder` where the checkpoints are, if they are not in `run_dir`."""
        import ray.train
        import ray.train.torch

        context = ray.train.get_context()
        self.rank, self.workers = context.get_world_rank(), context.get_world_size()
        self.local_workers = context.get_local_world_size()
        self.device = ray.train.torch.get_device()
        self.run_dir, self._remote = Path(run_dir), remote
        self._fetched = ExitStack()
        self._storage = context.get_storage()
        self._stop = StopFile(self.run_dir)
        self._written = threading.Event()
        self._written.set()
        self._watched = os.environ.get("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "1") != "0"
        self._asked, self._told = time.monotonic(), False

    def report(self, step: int, metrics: Mapping[str, Any], write: Callable[[Path], None]) -> None:
        import ray.train

        # One checkpoint at a time: where storage is slower than training, copies of the state would pile up.
        self._written.wait()
        self._written.clear()
        folder = Path(tempfile.mkdtemp(prefix="pm-checkpoint-"))

        def upload(checkpoint: Any, name: str) -> Any:
            try:
                folder.mkdir(exist_ok=True)  # Ray tries again after some errors of S3
                write(folder)
                return self._storage.persist_current_checkpoint(checkpoint, name)
            except WRITE_ERRORS as error:
                target = self._storage.build_checkpoint_path_from_name(name)
                with suppress(*WRITE_ERRORS):  # half-written; what is left of it would only take room
                    self._storage.storage_filesystem.delete_dir(target)
                raise not_written(Path(target), error, self._remote) from error
            finally:
                shutil.rmtree(folder, ignore_errors=True)
                self._written.set()

        ray.train.report(
            dict(metrics),
            checkpoint=ray.train.Checkpoint.from_directory(str(folder)),
            checkpoint_dir_name=checkpoint_name(step),
            checkpoint_upload_mode=ray.train.CheckpointUploadMode.ASYNC,
            checkpoint_upload_fn=upload,
            delete_local_checkpoint_after_upload=False,
        )

    def __enter__(self) -> "RayContext":
        return self

    def __exit__(self, *_: object) -> None:
        self._fetched.close()

    def flush(self) -> None:
        """Wait until the checkpoints that were reported are kept, at most half a minute, before a worker fails."""
        import ray.train

        with suppress(Exception):  # the failure that follows tells more
            ray.train.get_all_reported_checkpoints(
                consistency_mode=ray.train.CheckpointConsistencyMode.COMMITTED, timeout_s=30
            )

    def restore(self) -> Path | None:
        import ray.train

        checkpoint = ray.train.get_checkpoint()
        if self._remote is not None:  # one copy for all workers of this machine, until they end
            return checkpoint and Path(self._fetched.enter_context(checkpoint.as_directory()))
        if checkpoint is not None and is_complete(Path(checkpoint.path)):
            return Path(checkpoint.path)
        # Without an entry in Ray's list (see `snapshot.repair_snapshot`) the folders are looked at.
        return newest_complete(self.run_dir / CHECKPOINTS)

    def stop_requested(self) -> bool:
        return self._stop.is_there()

    def should_ask(self) -> bool:
        due = self._watched and not self._told and time.monotonic() - self._asked > _ASK_SECONDS
        if due:
            self._asked = time.monotonic()
        return due

    def preempted(self) -> bool:
        import ray.train

        if self._told or ray.train.get_preemption_info() is None:
            return False
        self._told = True
        return True


class StopFile:
    """Looks a few times a second for the file that asks a run to save and end."""

    def __init__(self, run_dir: Path):
        self._path, self._next, self._seen = run_dir / STOP, 0.0, False

    def is_there(self) -> bool:
        """Whether the file was there at the last look."""
        if not self._seen and time.monotonic() >= self._next:
            self._seen = self._path.exists()
            self._next = time.monotonic() + _LOOK_SECONDS
        return self._seen


def not_written(target: Path, error: Exception, remote: Any = None) -> CheckpointError:
    """What to tell when a checkpoint could not be written to `target`, in the storage of `remote` if there is one."""
    whole = newest_complete(target.parent)
    before = remote.newest_checkpoint() if remote is not None else whole and whole.name
    way_out = f"resumes from {before}" if before is not None else "starts again: there was no checkpoint yet"
    return CheckpointError(
        f"checkpoint {target} could not be written ({error}); make room or repair the storage and run the same "
        f"command again: it {way_out}"
    )
