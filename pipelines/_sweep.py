"""`train.py -m`: every cell of a sweep is a run of its own, whatever becomes of the others; one table at the end."""

import sys
import traceback
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, cast

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from pipelines._cells import cell_name
from pipelines._ending import fail
from pipelines._entry import program
from pm.config import from_mapping
from pm.errors import Interrupted, PmError, reason
from pm.track.base import TrackerChoice
from pm.train.callbacks.metrics import METRICS
from pm.train.run.storage import RemoteFolder, folders
from pm.train.run.summary import SUMMARY
from pm.train.run.sweep import CELL, finish_sweep, write_cell


def in_sweep() -> bool:
    """Whether this is a cell of `-m`."""
    return HydraConfig.get().mode == RunMode.MULTIRUN


def run_name(cfg: dict) -> str:
    """`<name>`, and below it a folder for each cell, named after its overrides: `ablation/compose-average_seed-0`."""
    hydra = HydraConfig.get()
    if not in_sweep():
        return cfg["name"]
    return f"{cfg['name']}/{cell_name(hydra.overrides.task, hydra.job.config.override_dirname.exclude_keys)}"


def run_cell(main: Callable[[dict], Any], cfg: dict) -> None:
    """Run one cell and note how it went. An interruption ends the sweep, a failure does not."""
    if not in_sweep():
        return main(cfg)
    hydra, error = HydraConfig.get(), None
    if "RayLauncher" in hydra.launcher._target_:  # a worker of Ray, wherever it runs
        cfg["workers"]["wait_seconds"] = 10**7  # cells side by side wait for each other's workers
    try:
        main(cfg)
    except Interrupted as interrupted:
        fail(str(interrupted))
    except PmError as failure:
        error = str(failure)
    except Exception as failure:  # a defect: the others may still work
        traceback.print_exc()
        error = f"{type(failure).__name__}: {reason(failure)}"
    if error is not None:
        print(f"{run_name(cfg)} failed: {error}", file=sys.stderr, flush=True)
    folder, uri = folders(cfg["storage_path"], run_name(cfg))
    try:
        write_cell(folder, hydra.overrides.task, error)
    except PmError as problem:
        fail(str(problem))
    if uri is not None:
        RemoteFolder(uri).push_file(folder, CELL)


class Sweep(Callback):
    """What happens before the first and after the last cell."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        for key in ("data", "wild"):
            if OmegaConf.is_missing(config, key):
                fail(f"{key} is not set; give the folder that pipelines/preprocess.py wrote: {key}=<folder>")
        if "RayLauncher" in str(config.hydra.launcher._target_):
            from pm.ray_env import ray_init

            if find_spec("hydra_plugins") is None or find_spec("hydra_plugins.hydra_ray_launcher") is None:
                fail("hydra/launcher=ray is not installed; pip install --no-deps hydra-ray-launcher")
            ray_init(log_to_driver=True)

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        chosen = cast(dict, OmegaConf.to_container(config.tracker, resolve=True))
        tracker = from_mapping(TrackerChoice, chosen, "tracker")
        root, uri = folders(config.storage_path, config.name)
        try:
            if uri is not None:
                RemoteFolder(uri).pull(root, names=(CELL, METRICS, SUMMARY))
            finish_sweep(root, config.name, tracker, f"{program()} -m")
        except PmError as error:
            fail(str(error))
