"""The work-around for gloo's threads, in a group of one."""

import pytest
import torch
import torch.distributed as dist

from pm.train.engine.base import rank, world_size
from pm.train.engine.gloo import copy_in_one_thread


@pytest.fixture()
def group(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
    yield dist.group.WORLD
    dist.destroy_process_group()


def test_the_number_of_threads_is_as_before(group):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        copy_in_one_thread(group)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_group_of_one_is_as_none(group):
    assert (rank(), world_size()) == (0, 1)
