"""Start a training run on Ray Train and follow it. The only place, besides the Ray context, that knows Ray."""

import fcntl
import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from pm.data.dataset import IdentityDataset
from pm.errors import CheckpointError, ConfigError, DataError, PmError
from pm.model.base import fingerprint
from pm.train.checkpoint import newest_complete
from pm.train.config import RunConfig, WorkersConfig
from pm.train.console import watch
from pm.train.context import CHECKPOINTS, RayContext
from pm.train.summary import ADAPTER, is_finished, label, read_summary, write_config

_SNAPSHOT = "checkpoint_manager_snapshot.json"  # Ray Train's list of a run's checkpoints


def launch(config: RunConfig, run_dir: str | Path, settings: Mapping[str, Any]) -> Path:
    """Train until `config.train.steps`, going on from the last checkpoint in `run_dir` if there is one.

    Ray must be connected. Blocks, with a progress bar on standard error.

    Args:
        config: the run.
        run_dir: where everything of the run goes; shared by all nodes of a cluster.
        settings: the whole config as plain values, for Weights & Biases.

    Returns:
        the adapter's path.

    Raises:
        ConfigError: the run was started with other settings, or the workers do not fit batch or cluster.
        DataError: dataset missing or made for another base.
        CheckpointError: base or checkpoints missing or damaged.
        ray.train.TrainingFailedError: a defect in a worker, with its traceback.
    """
    run_dir = Path(run_dir).absolute()
    init = config.init and str(Path(config.init).expanduser().absolute())
    config = replace(config, dataset=str(Path(config.dataset).absolute()), init=init)
    workers, scaling = plan_workers(config.workers)
    config.train.micro_batch(workers)
    check_dataset(config)
    write_config(run_dir, config)
    if is_finished(run_dir, config):
        steps = (read_summary(run_dir) or {})["steps"]
        print(f"{label(config, run_dir)}: already finished ({steps} steps): {run_dir / ADAPTER}")
        return run_dir / ADAPTER
    with _alone(run_dir), watch(run_dir, label(config, run_dir)):
        _repair_snapshot(run_dir)
        _fit(config, run_dir, settings, scaling)
    if not is_finished(run_dir, config):
        raise _interrupted(run_dir)
    summary = read_summary(run_dir) or {}
    loss, minutes = summary["metrics"].get("loss"), summary["seconds"] / 60
    told = f", loss {loss:.4f}" if loss is not None else ""
    print(f"{label(config, run_dir)}: {summary['steps']} steps in {minutes:.1f} min{told}: {run_dir / ADAPTER}")
    return run_dir / ADAPTER


@contextmanager
def _alone(run_dir: Path) -> Iterator[None]:
    """Hold the run's lock; the system lets go of it when this process ends, however it ends.

    Raises:
        ConfigError: another process trains in this folder.
    """
    with (run_dir / ".lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"run {run_dir} is being trained by another process; wait, or choose another name="
            ) from None
        yield


def check_dataset(config: RunConfig) -> None:
    """Fail in the driver, before any worker starts, when the dataset is not there or not for this base.

    Raises:
        DataError, CheckpointError
    """
    from pm.train.worker import samples_config

    if not Path(config.dataset).is_dir():
        raise DataError(
            f"dataset {config.dataset} does not exist; run pipelines/preprocess.py first: output={config.dataset}"
        )
    IdentityDataset(
        config.dataset, samples_config(config.train), base_fingerprint=fingerprint(config.base.path), cache_mb=1
    )


def plan_workers(config: WorkersConfig) -> tuple[int, dict[str, Any]]:
    """Number of workers, and the arguments of Ray's `ScalingConfig`, from what the cluster has.

    Raises:
        ConfigError: the cluster does not have that much; Ray would wait for ever.
    """
    import ray

    has = ray.cluster_resources()
    cpus, gpus = int(has.get("CPU", 0)), int(has.get("GPU", 0))
    use_gpu = gpus > 0 if config.use_gpu == "auto" else bool(config.use_gpu)
    number = config.num or (gpus if use_gpu else 2)
    if use_gpu and number > gpus:
        way_out = f"workers.num={gpus}" if gpus else "workers.use_gpu=false"
        raise ConfigError(f"workers.num={number} on GPUs needs {number} GPUs, Ray has {gpus}; set {way_out}")
    each = config.cpus_per_worker or (1 if use_gpu else max(1, cpus // number))
    if number * each > cpus:
        raise ConfigError(
            f"workers.num={number} with {each} CPUs each needs {number * each} CPUs, Ray has {cpus}; "
            f"set workers.num={max(1, cpus // each)} or start Ray with more (RAY_ADDRESS of a cluster)"
        )
    resources = {"CPU": each, **({"GPU": 1} if use_gpu else {})}
    return number, {"num_workers": number, "use_gpu": use_gpu, "resources_per_worker": resources}


def train_worker(job: Mapping[str, Any]) -> None:
    """What Ray Train runs on each worker."""
    import logging
    import warnings

    from pm.train.worker import run_worker, share_threads

    warnings.filterwarnings("ignore", category=FutureWarning)
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    context = RayContext(job["run_dir"])
    share_threads(context.local_workers)
    run_worker(job["config"], context, job["settings"])


def _fit(config: RunConfig, run_dir: Path, settings: Mapping[str, Any], scaling: Mapping[str, Any]) -> None:
    import ray.train
    from ray.train.torch import TorchTrainer

    # Ray's own account of every step goes to its log files; errors reach the driver as exceptions.
    os.environ.setdefault("RAY_TRAIN_ENABLE_PRINT_PATCH", "0")
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
    if len(ray.nodes()) == 1:  # nothing can be taken away; saves a process
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
    logging.getLogger("ray.train").setLevel(logging.ERROR)
    trainer = TorchTrainer(
        train_worker,
        train_loop_config={"config": config, "run_dir": str(run_dir), "settings": dict(settings)},
        scaling_config=ray.train.ScalingConfig(**scaling),
        run_config=ray.train.RunConfig(
            name=f"{run_dir.name}/{CHECKPOINTS}",
            storage_path=str(run_dir.parent),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=config.train.num_to_keep),
            failure_config=ray.train.FailureConfig(max_failures=config.workers.max_failures),
            logging_config=ray.train.LoggingConfig(log_level="CRITICAL"),
            # Told, DeepSpeed does not look for accelerators and complain about what it does not find.
            worker_runtime_env={"env_vars": {"DS_ACCELERATOR": "cuda" if scaling["use_gpu"] else "cpu"}},
        ),
    )
    try:
        trainer.fit()
    except ray.train.TrainingFailedError as error:
        raise _cause(error) from error
    except SystemExit:  # how Ray Train leaves after Ctrl-C, without a word
        raise _interrupted(run_dir) from None


def _cause(error: Exception) -> Exception:
    """The user's error behind a failed run, else the failure itself.

    When one worker fails, the others fail too, waiting for it; the `PmError` is the reason and not their timeouts.
    """
    for failure in getattr(error, "worker_failures", {}).values():
        inner = getattr(failure, "_base_exc", failure)
        if isinstance(inner, PmError):
            return inner
    return error


def _interrupted(run_dir: Path) -> PmError:
    saved = newest_complete(run_dir / CHECKPOINTS)
    place = f"go on from {saved.name}" if saved is not None else "start again: there was no checkpoint yet"
    return PmError(f"run {run_dir} was interrupted; run the same command again to {place}")


def _repair_snapshot(run_dir: Path) -> None:
    """Drop Ray's list of checkpoints if the last run died while writing it; the worker then looks at the folders.

    Raises:
        CheckpointError: there are checkpoints, but none is whole.
    """
    root = run_dir / CHECKPOINTS
    snapshot = root / _SNAPSHOT
    if not snapshot.exists():
        return
    try:
        json.loads(snapshot.read_text())
    except ValueError:
        if newest_complete(root) is None and any(root.glob("step-*")):
            raise CheckpointError(f"no checkpoint in {root} is whole; delete {run_dir} to start again") from None
        snapshot.unlink()
