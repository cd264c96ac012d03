"""One way to start or join Ray, so that every entry point and test uses the same settings."""

import contextlib
import logging
import os
import signal
import site
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray

from pm.errors import ConfigError
from pm.resources import checkout

_HIDE = "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"  # a worker without a GPU sees none; by default Ray 2.60 shows it all


def ray_init(**overrides: Any) -> None:
    """Start a local Ray, or join the cluster that `RAY_ADDRESS` (or `ray job submit`) names; does nothing if connected.

    Workers find the modules that this process finds, are silent unless something is wrong, and never phone home.

    Raises:
        ConfigError: this machine is too busy for Ray to start.
    """
    if ray.is_initialized():
        return
    for key, value in {
        "RAY_USAGE_STATS_ENABLED": "0",
        _HIDE: "1",
        "RAY_DEDUP_LOGS": "0",
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",  # by default a busy machine's proxy is given up after 15 s
        "TOKENIZERS_PARALLELISM": "false",
    }.items():
        os.environ.setdefault(key, value)
    path = os.pathsep.join(module_folders())
    settings: dict[str, Any] = {"log_to_driver": True, "logging_level": logging.ERROR}
    if os.environ.get("RAY_ADDRESS"):
        settings["runtime_env"] = {
            "env_vars": {"PYTHONPATH": path, "TOKENIZERS_PARALLELISM": "false", _HIDE: os.environ[_HIDE]}
        }
    else:
        # Its processes inherit this one's environment; a runtime environment would start each of them twice.
        os.environ["PYTHONPATH"] = path
        # Not any address: Ray would look for a cluster on this machine, and wait for one that has stopped.
        settings |= {"address": "local", "include_dashboard": False}
    before = signal.getsignal(signal.SIGTERM)
    try:
        _start({**settings, **overrides})
    except SystemExit:  # of Ray's own handler, which it puts in place before it is ready, and which says nothing
        if callable(before):
            before(signal.SIGTERM, None)
        raise
    except Exception as error:
        if not _was_late(error):
            raise
        raise ConfigError(
            "Ray did not start in time, twice: this machine is too busy, or short of memory; free some of it and run "
            "the same command again, or join a running Ray with RAY_ADDRESS"
        ) from error
    if callable(before) and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)  # Ray puts its own in place, which ends this process without a word


def _start(settings: dict[str, Any]) -> None:
    """`ray.init`, once more where this machine was too slow for the 30 s that Ray gives itself."""
    try:
        ray.init(**settings)
    except Exception as error:
        if not _was_late(error):
            raise
        print("Ray did not start within its 30 s; trying once more ...", file=sys.stderr, flush=True)
        ray.shutdown()  # what did start
        ray.init(**settings)


def _was_late(error: Exception) -> bool:
    return "timed out during startup" in str(error)  # Ray has no type of its own for it


def module_folders() -> list[str]:
    """What a worker needs on its PYTHONPATH to find the modules that this process finds, parts of the user's own too.

    The checkout, if this is one (an installed project is found like any other package); then PYTHONPATH, and what this
    process has added to its path since. Ray itself adds the working directory.
    """
    libraries = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib", "scripts")]
    libraries += [*site.getsitepackages(), site.getusersitepackages()]
    added = [
        folder
        for folder in sys.path
        if Path(folder).is_absolute() and Path(folder).is_dir() and not any(map(Path(folder).is_relative_to, libraries))
    ]
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return list(dict.fromkeys(filter(None, [str(checkout() or ""), *given, *added])))


@contextlib.contextmanager
def without_restart_warning() -> Iterator[None]:
    """Keep one line of Ray's core off the terminal, while an actor that has an `ObjectRef` argument is made.

    Ray Data hands its actors their work by reference and lets them restart, about which Ray's core (2.60,
    core_worker.cc) says once in each process that "the actor restart will fail" if that reference is lost. The driver
    holds it as long as the graph runs, so the line is wrong here, and frightening. It is written to file descriptor 2
    by C++, as an error, so no logger of Python's and no level of Ray's keeps it off without hiding real errors.
    Whatever else is written meanwhile is passed on.
    """
    sys.stderr.flush()
    with tempfile.TemporaryFile() as caught:
        terminal = os.dup(2)
        os.dup2(caught.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(terminal, 2)
            caught.seek(0)
            for line in caught:
                if b"actor restart will fail" not in line:
                    os.write(terminal, line)
            os.close(terminal)
