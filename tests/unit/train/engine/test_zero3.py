"""The pure parts of preparing ZeRO-3; the rest is in `tests/distributed/test_workarounds.py` and `test_train.py`."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from pm.train.engine import zero3


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_shares_are_equal_slices_padded_at_the_end(monkeypatch, workers):
    whole = torch.arange(10.0).view(2, 5)
    size = -(-10 // workers)
    parameter = SimpleNamespace(ds_tensor=torch.empty(size))
    monkeypatch.setattr(zero3, "world_size", lambda: workers)
    pieces = []
    for rank in range(workers):
        monkeypatch.setattr(zero3, "rank", lambda rank=rank: rank)
        pieces.append(zero3.share(parameter, whole))
    together = torch.cat(pieces)
    assert all(len(piece) == size for piece in pieces)
    assert torch.equal(together[:10], whole.flatten()) and not together[10:].any()


def test_weights_travel_in_portions_of_bounded_size():
    sizes = [4, 4, 9, 1, 1, 30, 2]
    weights = [SimpleNamespace(ds_numel=size) for size in sizes]
    portions = [[w.ds_numel for w in portion] for portion in zero3._portions(weights, 10)]
    assert portions == [[4, 4], [9, 1], [1], [30], [2]]
    assert list(zero3._portions([], 10)) == []


def test_the_shape_of_a_partitioned_weight_is_that_of_the_whole():
    parameter = nn.Parameter(torch.zeros(0))
    assert zero3.parameter_shape(parameter) == (0,)
    parameter.ds_shape = torch.Size([3, 4])
    assert zero3.parameter_shape(parameter) == (3, 4)
