"""DeepSpeed uses the process group that is there, and compiles nothing for it."""

import pytest
import torch
import torch.distributed as dist

from pm.train.engine.join import join_process_group

deepspeed = pytest.importorskip("deepspeed")


def test_deepspeed_joins_the_group_that_is_there_once(group, monkeypatch):
    for _ in range(2):
        join_process_group(torch.device("cpu"))
        assert deepspeed.comm.is_initialized() and deepspeed.comm.get_world_size() == dist.get_world_size() == 1
        monkeypatch.setattr(deepspeed, "init_distributed", lambda **_: pytest.fail("joined again"))
    summed = torch.arange(3.0)
    deepspeed.comm.all_reduce(summed)
    assert summed.tolist() == [0, 1, 2]


def test_no_operator_is_left_to_compile(group):
    join_process_group(torch.device("cpu"))
    assert "deepspeed_shm_comm" not in deepspeed.ops.__compatible_ops__
