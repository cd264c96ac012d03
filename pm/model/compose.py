"""From a ragged set of image embeddings to the tokens of each row (Table 2a of the paper).

Ragged layout everywhere: the M images of B rows lie one after another, `counts` [B] says how many each row has.
"""

import torch
from torch import Tensor, nn

from pm.errors import ConfigError


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


class Stacked(nn.Module):
    """One token per image: the paper's stacked ID embedding (eq. 1)."""

    one_token = False

    def forward(self, embeds: Tensor, counts: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings [M, D] and weights [M] as they are."""
        return embeds, weights


class Average(nn.Module):
    """One token per row: the mean of its embeddings, weighted when weights are given."""

    one_token = True

    def forward(self, embeds: Tensor, counts: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Means [B, D] and each row's strength [B], the mean of its weights."""
        share, strength = _relative(weights, counts)
        rows = row_of_each(counts, embeds.shape[0])
        total = embeds.new_zeros(counts.shape[0], embeds.shape[1]).index_add(0, rows, embeds * share[:, None])
        return total / counts[:, None].to(embeds.dtype), strength


class Linear(nn.Module):
    """One token per row: a learned projection of up to N_max embeddings.

    Fewer than N_max are padded with zeros and scaled by N_max / N, so the input's magnitude does not depend on N. The
    projection starts as the mean over the slots: training starts where `average` is and moves from there.
    """

    one_token = True

    def __init__(self, width: int, max_images: int) -> None:
        super().__init__()
        self.max_images = max_images
        self.projection = nn.Linear(max_images * width, width)
        with torch.no_grad():
            self.projection.weight.copy_(torch.eye(width).repeat(1, max_images) / max_images)
            self.projection.bias.zero_()

    def forward(self, embeds: Tensor, counts: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Projections [B, D] and each row's strength [B], the mean of its weights."""
        share, strength = _relative(weights, counts)
        padded = pad_ragged(embeds * share[:, None], counts, self.max_images)
        scale = self.max_images / counts[:, None].to(embeds.dtype)
        return self.projection(padded.flatten(1) * scale), strength


def build_compose(kind: str, width: int, max_images: int) -> nn.Module:
    """The composition named in the configuration.

    Raises:
        ConfigError: no such composition.
    """
    if kind == "stacked":
        return Stacked()
    if kind == "average":
        return Average()
    if kind == "linear":
        return Linear(width, max_images)
    raise ConfigError(f"compose={kind!r} is not one of stacked, average, linear")


def _relative(weights: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Split weights [M] into shares with mean 1 in each row, and the row's strength, its mean [B]."""
    rows = row_of_each(counts, weights.shape[0])
    mean = weights.new_zeros(counts.shape[0]).index_add(0, rows, weights) / counts.to(weights.dtype)
    safe = torch.where(mean > 0, mean, torch.ones_like(mean))[rows]
    # A row of zeros has strength 0: its embedding is not seen, so equal shares do.
    share = torch.where(mean[rows] > 0, weights / safe, torch.ones_like(weights))
    return share, mean
