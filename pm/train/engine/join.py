"""DeepSpeed's process group without a compiler: a work-around on DeepSpeed 0.19's private list of operators.

`tests/distributed/test_workarounds.py` shows the need.
"""

import deepspeed
import torch
import torch.distributed as dist
from deepspeed.utils import groups

from pm.train.engine.gloo import copy_in_one_thread


def join_process_group(device: torch.device) -> None:
    """Let DeepSpeed use the process group that is there."""
    if deepspeed.comm.is_initialized():
        return
    if device.type == "cpu":
        # Without an entry here DeepSpeed compiles its shared-memory all-reduce on first use: minutes, and a compile
        # that is interrupted leaves a lock that blocks every later run. gloo does the same job.
        deepspeed.ops.__compatible_ops__ = {}
    deepspeed.init_distributed(dist_backend=dist.get_backend(), auto_mpi_discovery=False, verbose=False)
    if device.type == "cpu":
        for group in (dist.group.WORLD, groups._get_data_parallel_group()):
            copy_in_one_thread(group)
