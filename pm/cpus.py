"""What this process may compute with. Torch left alone takes all of a machine for every process, under Ray one CPU."""

import os


def available_cpus() -> int:
    """CPUs this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
