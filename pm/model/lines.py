"""Rows of tensors picked, and small tensors made, where a device computes: nothing is copied to it, nothing waits.

An index or a number that comes from Python as a tensor is a copy from the host, before which the host waits for all
that the device has still to do. A view, a fill or a stack of views is none.
"""

from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor


def lines(tensor: Tensor, index: Sequence[int]) -> Tensor:
    """Lines [N, ...] of a tensor [B, ...], in the order of `index`; the tensor itself where that is all of it."""
    if len(index) == tensor.shape[0] and all(i == n for n, i in enumerate(index)):
        return tensor
    if not index:
        return tensor.narrow(0, 0, 0)
    if all(i == index[0] + n for n, i in enumerate(index)):
        return tensor.narrow(0, index[0], len(index))
    return torch.stack([tensor.select(0, i) for i in index])


def filled(values: Sequence[float], device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """A tensor [N] of Python numbers."""
    parts = [torch.full((len(list(run)),), value, device=device, dtype=dtype) for value, run in groupby(values)]
    return torch.cat(parts) if parts else torch.empty(0, device=device, dtype=dtype)


def queued(device: torch.device) -> bool:
    """Whether the host runs ahead of a device, and may let it fetch from pinned memory and send to it by itself."""
    return device.type == "cuda"


def sent(tensor: Tensor, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """A tensor of the host on a device, in a dtype (None: its own); CUDA fetches it when it comes to it."""
    if not queued(device) or tensor.device.type != "cpu":
        return tensor.to(device, dtype)
    kept = torch.empty(tensor.shape, dtype=dtype or tensor.dtype, pin_memory=True)
    return kept.copy_(tensor).to(device, non_blocking=True)
