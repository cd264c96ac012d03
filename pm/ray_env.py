"""One way to start or join Ray, so that every entry point and test uses the same settings."""

import logging
import os
from pathlib import Path
from typing import Any

import ray

ROOT = Path(__file__).resolve().parents[1]


def ray_init(**overrides: Any) -> None:
    """Start a local Ray, or join the cluster that `RAY_ADDRESS` (or `ray job submit`) names; does nothing if connected.

    Workers find this project through PYTHONPATH, are silent unless something is wrong, and never phone home.
    """
    if ray.is_initialized():
        return
    for key, value in {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_DEDUP_LOGS": "0",
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",  # by default a busy machine's proxy is given up after 15 s
        "TOKENIZERS_PARALLELISM": "false",
    }.items():
        os.environ.setdefault(key, value)
    path = os.pathsep.join(
        dict.fromkeys([str(ROOT), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))])
    )
    settings: dict[str, Any] = {"log_to_driver": True, "logging_level": logging.ERROR}
    if os.environ.get("RAY_ADDRESS"):
        settings["runtime_env"] = {"env_vars": {"PYTHONPATH": path, "TOKENIZERS_PARALLELISM": "false"}}
    else:
        # Its processes inherit this one's environment; a runtime environment would start each of them twice.
        os.environ["PYTHONPATH"] = path
        # Not any address: Ray would look for a cluster on this machine, and wait for one that has stopped.
        settings |= {"address": "local", "include_dashboard": False}
    ray.init(**{**settings, **overrides})
