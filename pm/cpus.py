"""What this process may compute with, and `map` over it.

Torch left alone takes all of a machine for every process, under Ray one CPU.
"""

import contextlib
import functools
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any


def available_cpus() -> int:
    """CPUs this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def process_map(chunksize: int) -> Iterator[Callable[..., Iterator[Any]]]:
    """A `map` over one process for each CPU; over this one alone if it has threads.

    A forked copy of a process that is connected to Ray shares its connections; most likely that is why its raylet
    crashed now and then, and a call of the parent was never answered. Processes that start anew would import the
    caller's script again.
    """
    if threading.active_count() > 1:
        yield map
        return
    with ProcessPoolExecutor(available_cpus()) as pool:
        yield functools.partial(pool.map, chunksize=chunksize)
