"""How many workers of what size: what the run asks for, held against what the cluster has."""

import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from pm.errors import ConfigError
from pm.train.run.config import WorkersConfig

_LOOK_SECONDS = 2.0


def plan_workers(config: WorkersConfig) -> tuple[int, dict[str, Any]]:
    """Number of workers (the most, if elastic), and the arguments of Ray's `ScalingConfig`, from what the cluster has.

    A cluster that was joined may still grow: it is asked for what is missing and waited for, `wait_seconds` at most.

    Raises:
        ConfigError: the cluster does not have that much; Ray would wait for ever.
    """
    import ray

    wait = config.wait_seconds if os.environ.get("RAY_ADDRESS") else 0
    end, told = time.monotonic() + wait, False
    while True:
        try:
            planned = fit_workers(config, ray.cluster_resources())
            if told:
                _ask_cluster([])
            return planned
        except ConfigError as error:
            if time.monotonic() >= end:
                if told:
                    _ask_cluster([])
                raise ConfigError(f"{error}{f' (waited {wait} s, workers.wait_seconds)' if wait else ''}") from None
            if not told:
                print(f"waiting up to {wait} s for the cluster: {error}", file=sys.stderr, flush=True)
                gpus = {"GPU": 1} if config.use_gpu is True else {}
                _ask_cluster([{"CPU": config.cpus_per_worker or 1, **gpus}] * (config.num or 1))
                told = True
            time.sleep(_LOOK_SECONDS)


def fit_workers(config: WorkersConfig, has: Mapping[str, float]) -> tuple[int, dict[str, Any]]:
    """The same for resources `has` ("CPU", "GPU"), at once."""
    cpus, gpus = int(has.get("CPU", 0)), int(has.get("GPU", 0))
    use_gpu = gpus > 0 if config.use_gpu == "auto" else bool(config.use_gpu)
    number = config.num or (max(1, gpus) if use_gpu else 2)
    least = min(config.min or number, number)
    name = "num" if config.min is None else "min"
    if use_gpu and least > gpus:
        way_out = f"workers.{name}={gpus}" if gpus else "workers.use_gpu=false"
        raise ConfigError(f"workers.{name}={least} on GPUs needs {least} GPUs, Ray has {gpus}; set {way_out}")
    each = config.cpus_per_worker or (1 if use_gpu else max(1, cpus // number))
    if least * each > cpus:
        raise ConfigError(
            f"workers.{name}={least} with {each} CPUs each needs {least * each} CPUs, Ray has {cpus}; "
            f"set workers.{name}={max(1, cpus // each)} or start Ray with more (RAY_ADDRESS of a cluster)"
        )
    resources = {"CPU": each, **({"GPU": 1} if use_gpu else {})}
    scaling: dict[str, Any] = {"num_workers": number, "use_gpu": use_gpu, "resources_per_worker": resources}
    if least < number:
        scaling |= {"num_workers": (least, number), "elastic_resize_monitor_interval_s": config.grow_seconds}
    return number, scaling


class Shortage:
    """Watches, in a thread, whether the cluster still has what the run needs, and gives up after `wait_seconds`.

    Ray Train itself would wait for ever for a node that does not come back.

    Args:
        give_up: called once, in the thread; `reason` says why.
    """

    def __init__(self, config: WorkersConfig, give_up: Callable[[], None]):
        self.reason: ConfigError | None = None
        self._config, self._give_up = config, give_up
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="shortage", daemon=True)

    def __enter__(self) -> "Shortage":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        import ray

        since: float | None = None
        while not self._stop.wait(_LOOK_SECONDS):
            try:
                fit_workers(self._config, ray.cluster_resources())
                since = None
            except ConfigError as error:
                since = since or time.monotonic()
                if time.monotonic() - since > self._config.wait_seconds:
                    self.reason = ConfigError(
                        f"the cluster has lost what the run needs: {error} (waited {self._config.wait_seconds} s); "
                        "run the same command again to resume from the last checkpoint"
                    )
                    self._give_up()
                    return


def _ask_cluster(bundles: list[dict[str, float]]) -> None:
    """Tell the autoscaler, if there is one, what is needed; an empty list takes it back."""
    from ray.autoscaler.sdk import request_resources

    request_resources(bundles=bundles)
