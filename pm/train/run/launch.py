"""Start a training run on Ray Train and follow it."""

import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from pm.cpus import available_cpus
from pm.data.dataset.reader import IdentityDataset
from pm.errors import Interrupted, PmError
from pm.files import locked
from pm.gpus import see_only
from pm.startup import collect_rarely
from pm.train.checkpoint import newest_complete
from pm.train.run.checks import check_batch, check_checkpoint, check_dataset, check_writable, dataset_changed
from pm.train.run.config import RunConfig
from pm.train.run.console import watch
from pm.train.run.context import RayContext
from pm.train.run.failures import cause, no_retry_of_users_errors
from pm.train.run.plan import Shortage, plan_workers
from pm.train.run.resume import CONFIG, Change, check_config, write_config
from pm.train.run.snapshot import repair_snapshot
from pm.train.run.storage import RemoteFolder, followed, mirrored
from pm.train.run.summary import ADAPTER, CHECKPOINTS, STOP, in_words, is_finished, label
from pm.train.run.trainer import trainer_class


def launch(config: RunConfig, run_dir: str | Path, settings: Mapping[str, Any], storage: str | None = None) -> Path:
    """Train until `config.train.steps`, resuming from the last checkpoint in `run_dir` if there is one.

    Ray must be connected. Blocks, with a progress bar on standard error. SIGTERM saves a checkpoint and ends the run.

    Args:
        config: the run.
        run_dir: where everything of the run goes; shared by all nodes of a cluster.
        settings: the whole config as plain values, for the tracker.
        storage: URI where the run lives instead; `run_dir` then is this machine's copy, without the checkpoints.

    Returns:
        the adapter's path.

    Raises:
        ConfigError: the run was started with other settings, or the workers do not fit batch or cluster.
        DataError: dataset missing or made for another base.
        CheckpointError: base or checkpoints missing or damaged, or a checkpoint could not be written.
        PmError: the run was interrupted.
        ray.train.TrainingFailedError: a defect in a worker, with its traceback.
    """
    run_dir = Path(run_dir).absolute()
    init = config.init and str(Path(config.init).expanduser().absolute())
    config = replace(config, dataset=str(Path(config.dataset).absolute()), init=init)
    config.tracker.check()
    workers, scaling = plan_workers(config.workers)
    check_batch(config, workers)
    dataset = check_dataset(config)
    check_writable(run_dir)
    remote = RemoteFolder(storage) if storage is not None else None
    if remote is not None:
        remote.check_writable()
        remote.pull(run_dir)
    changes, shown = check_config(run_dir, config), label(config, run_dir)
    if is_finished(run_dir, config):
        print(_finished(run_dir, config, dataset, changes))
        return run_dir / ADAPTER
    check_checkpoint(run_dir, config, dataset)
    if changes:
        print(f"{shown}: resumes with {', '.join(map(str, changes))}", file=sys.stderr, flush=True)
    write_config(run_dir, config)
    if remote is not None:
        remote.push_file(run_dir, CONFIG)  # so that another machine compares with it
    alone = locked(run_dir / ".lock", f"run {run_dir}", "wait, or choose another name=")
    following = watch(run_dir, shown, f"starting {workers} worker{'s' if workers > 1 else ''}")
    with alone, following, _saved_on_sigterm(run_dir), followed(remote, run_dir):
        repair_snapshot(run_dir)
        _fit(config, run_dir, remote, settings, scaling)
    if not is_finished(run_dir, config):
        raise _interrupted(run_dir, remote)
    print(f"{shown}: {in_words(run_dir)}: {run_dir / ADAPTER}")
    return run_dir / ADAPTER


def _finished(run_dir: Path, config: RunConfig, dataset: IdentityDataset, changes: Sequence[Change]) -> str:
    """What to say of a run that has all its steps already."""
    lines = [f"{label(config, run_dir)}: already finished ({in_words(run_dir)}): {run_dir / ADAPTER}"]
    without = [str(change) for change in changes if change.counts]
    if without:
        lines.append(f"  not applied, as no step is left: {', '.join(without)}; raise train.steps to train on")
    if dataset_changed(run_dir, dataset):
        lines.append(
            f"  dataset {dataset.path} has changed since: photos were added or removed, perhaps by `forget`, and the "
            "adapter has learnt from those that were there; to train on what is there now, choose another name="
        )
    return "\n".join(lines)


@contextmanager
def _saved_on_sigterm(run_dir: Path) -> Iterator[None]:
    """Inside, the first SIGTERM asks the workers to save and end; the next ends this process at once."""
    stop = run_dir / STOP
    stop.unlink(missing_ok=True)
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(*_: object) -> None:
        stop.touch()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        print("SIGTERM: saving a checkpoint after this step ...", file=sys.stderr, flush=True)

    before = signal.signal(signal.SIGTERM, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        stop.unlink(missing_ok=True)


def train_worker(job: Mapping[str, Any]) -> None:
    """What Ray Train runs on each worker."""
    collect_rarely()
    see_only(1 if job["accelerator"] == "cuda" else 0)
    import warnings

    import torch

    from pm.train.run.workers import run_worker

    # With this, DeepSpeed does not look for accelerators and complain about what it does not find. Set here and not in
    # a runtime environment: Ray's idle processes could then not become workers.
    os.environ["DS_ACCELERATOR"] = job["accelerator"]
    warnings.filterwarnings("ignore", category=FutureWarning)
    # Ray tells every checkpoint with all its metrics, by a logger that is named by its file.
    for name in ("DeepSpeed", *filter(re.compile(r"ray/train/.*\.py$").search, logging.root.manager.loggerDict)):
        logging.getLogger(name).setLevel(logging.ERROR)
    remote: RemoteFolder | None = job["remote"]
    context = RayContext(job["run_dir"] if remote is None else remote.scratch(), remote)
    torch.set_num_threads(max(1, available_cpus() // context.local_workers))
    with mirrored(remote if context.rank == 0 else None, context.run_dir), context:
        try:
            run_worker(job["config"], context, job["settings"])
        except PmError:  # it ends the run: what is still being written must not be lost
            context.flush()
            raise


def _fit(
    config: RunConfig,
    run_dir: Path,
    remote: RemoteFolder | None,
    settings: Mapping[str, Any],
    scaling: Mapping[str, Any],
) -> None:
    import ray.train

    wait = max(60, config.workers.wait_seconds)
    # Ray learns late that a node is dead. An elastic run, sized by what Ray believes to be there, asks again soon.
    attempt = wait if config.workers.min is None else 5
    # Ray's own account of every step goes to its log files; errors reach the driver as exceptions.
    os.environ.setdefault("RAY_TRAIN_ENABLE_PRINT_PATCH", "0")
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", str(attempt))
    if len(ray.nodes()) == 1:  # nothing can be taken away; saves a process
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
    logging.getLogger("ray.train").setLevel(logging.ERROR)
    home = run_dir if remote is None else PurePosixPath(remote.path)
    v2: Any = ray.train  # its types are those of the former version
    trainer = trainer_class()(
        train_worker,
        train_loop_config={
            "config": config,
            "run_dir": str(run_dir),
            "remote": remote,
            "settings": dict(settings),
            "accelerator": "cuda" if scaling["use_gpu"] else "cpu",
        },
        scaling_config=v2.ScalingConfig(**scaling),
        run_config=v2.RunConfig(
            name=f"{home.name}/{CHECKPOINTS}",
            storage_path=str(home.parent),
            storage_filesystem=None if remote is None else remote.filesystem,
            checkpoint_config=v2.CheckpointConfig(
                num_to_keep=config.train.num_to_keep,
                checkpoint_score_attribute=config.train.best_metric,
                checkpoint_score_order=config.train.best_mode,
            ),
            failure_config=v2.FailureConfig(
                max_failures=config.workers.max_failures,
                controller_failure_limit=3 * wait // attempt,  # workers that did not come up within `attempt`
            ),
            callbacks=[no_retry_of_users_errors()],
            logging_config=v2.LoggingConfig(log_level="CRITICAL"),
        ),
    )
    with Shortage(config.workers, give_up=lambda: os.kill(os.getpid(), signal.SIGINT)) as shortage:
        try:
            trainer.fit()
        except ray.train.TrainingFailedError as error:
            raise cause(error) from error
        except SystemExit:  # how Ray Train leaves after Ctrl-C, without a word
            raise shortage.reason or _interrupted(run_dir, remote) from None


def _interrupted(run_dir: Path, remote: RemoteFolder | None) -> Interrupted:
    whole = newest_complete(run_dir / CHECKPOINTS)
    saved = remote.newest_checkpoint() if remote is not None else whole and whole.name
    place = f"resume from {saved}" if saved is not None else "start again: there was no checkpoint yet"
    return Interrupted(
        f"run {run_dir if remote is None else remote.uri} was interrupted; run the same command again to {place}"
    )
