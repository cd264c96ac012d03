"""A work-around for gloo's threads with torch 2.13 on a CPU; `tests/distributed/test_workarounds.py` shows the need."""

from typing import Any

import torch
import torch.distributed as dist

_PARALLEL_LOOP = 100_000  # elements; torch shares loops over 32768 and more out to threads
_GLOO_THREADS = 2  # of a process group


def copy_in_one_thread(group: Any) -> None:
    """Let gloo's own threads copy without OpenMP.

    Otherwise OpenMP keeps another pool of threads for each, and with more of them than cores they sleep between loops
    instead of spinning: one worker with two threads took twice as long for every later step.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a thread keeps the number that it finds at its first loop
    mine = torch.zeros(_PARALLEL_LOOP)
    works = []
    for _ in range(_GLOO_THREADS * 4):  # at once, so that each thread gets one
        found = [torch.empty_like(mine) for _ in range(dist.get_world_size(group))]
        works.append(dist.all_gather(found, mine, group=group, async_op=True))
    for work in works:
        work.wait()
    torch.set_num_threads(threads)
