"""What can be said to be wrong before any worker starts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pm.data.dataset.reader import IdentityDataset
from pm.data.records import require_dataset
from pm.errors import ConfigError
from pm.files import write_text, writing
from pm.model.base_sizes import fingerprint
from pm.train.checkpoint import check_origin, newest_complete, read_meta
from pm.train.run.config import RunConfig
from pm.train.run.summary import CHECKPOINTS, read_summary


def check_batch(config: RunConfig, workers: int) -> None:
    """Fail when the global batch cannot be split over `workers`; an elastic run splits it unevenly where it must.

    Raises:
        ConfigError: it cannot be split.
    """
    if config.workers.min is None:
        config.train.check_split(workers)
    elif config.train.batch_size < workers:
        raise ConfigError(
            f"train.batch_size={config.train.batch_size} is less than workers.num={workers}; use workers.num="
            f"{config.train.batch_size} or a larger batch"
        )


def check_writable(run_dir: Path) -> None:
    """Make the run's folder.

    Raises:
        WriteError: it cannot be made or written to.
    """
    with writing(run_dir, "storage_path="):
        write_text(run_dir / ".writable", "x", sync=False)
        (run_dir / ".writable").unlink()


def check_dataset(config: RunConfig) -> IdentityDataset:
    """Open the dataset, or fail in the driver, before any worker starts.

    Raises:
        DataError: there is no dataset, it cannot be read, or it lacks what this kind of adapter is trained with.
        CheckpointError: the dataset was made for another base.
    """
    from pm.train.run.workers import samples_config

    require_dataset(config.dataset)
    dataset = IdentityDataset(
        config.dataset, samples_config(config.train), base_fingerprint=fingerprint(config.base), cache_mb=1
    )
    config.adapter.for_dataset(dataset.face_embedding, f"dataset {config.dataset}")
    return dataset


def check_checkpoint(run_dir: Path, config: RunConfig, dataset: IdentityDataset) -> None:
    """Fail when the newest checkpoint in the run's folder was made with another base or dataset.

    Raises:
        CheckpointError: it was; names both.
    """
    folder = newest_complete(run_dir / CHECKPOINTS)
    if folder is not None:
        now = {"base": fingerprint(config.base), "dataset": dataset.fingerprint()}
        check_origin(folder, _provenance(folder), now)


def dataset_changed(run_dir: Path, dataset: IdentityDataset) -> bool:
    """Whether a finished run learnt from other photos than are in its dataset now; False where nothing tells."""
    then = (read_summary(run_dir) or {}).get("dataset")
    if then is None:  # a summary of version 0.1
        folder = newest_complete(run_dir / CHECKPOINTS)
        then = None if folder is None else _provenance(folder).get("dataset")
    return then is not None and then != dataset.fingerprint()


def _provenance(folder: Path) -> Mapping[str, Any]:
    return read_meta(folder)["provenance"]
