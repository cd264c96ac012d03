"""The work-around for gloo's threads, in a group of one."""

import torch

from pm.train.engine.base import rank, world_size
from pm.train.engine.gloo import copy_in_one_thread


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
