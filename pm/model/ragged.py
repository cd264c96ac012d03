"""Ragged batches: the M elements of B rows lie one after another, `counts` [B] says how many each row has."""

import torch
from torch import Tensor


def row_of_each(counts: Tensor, total: int) -> Tensor:
    """Row index of every element of a ragged batch, [total] int64; `total` saves a device sync."""
    rows = torch.arange(counts.shape[0], device=counts.device)
    return torch.repeat_interleave(rows, counts, output_size=total)


def slot_of_each(counts: Tensor, total: int) -> Tensor:
    """Position of every element within its row, [total] int64."""
    starts = counts.cumsum(0) - counts
    return torch.arange(total, device=counts.device) - starts[row_of_each(counts, total)]


def pad_ragged(values: Tensor, counts: Tensor, length: int) -> Tensor:
    """Ragged [M, D] to dense [B, length, D], zeros after each row's last element."""
    slots = torch.arange(length, device=counts.device)
    starts = counts.cumsum(0) - counts
    index = (starts[:, None] + slots).clamp(max=values.shape[0] - 1)
    present = slots < counts[:, None]
    return torch.where(present[..., None], values[index], values.new_zeros(()))


def relative_weights(weights: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Split weights [M] into shares with mean 1 in each row, and the row's strength, its mean [B]."""
    rows = row_of_each(counts, weights.shape[0])
    mean = weights.new_zeros(counts.shape[0]).index_add(0, rows, weights) / counts.to(weights.dtype)
    safe = torch.where(mean > 0, mean, torch.ones_like(mean))[rows]
    # A row of zeros has strength 0: its embedding is not seen, so equal shares do.
    share = torch.where(mean[rows] > 0, weights / safe, torch.ones_like(weights))
    return share, mean
