"""One token for each row: the mean of its photos' embeddings."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from pm.model.compose.base import ComposeChoice
from pm.model.ragged import relative_weights, row_of_each


class Mean(nn.Module):
    """Means [B, D], weighted when weights are given, and each row's strength [B], the mean of its weights."""

    def forward(self, embeds: Tensor, counts: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        share, strength = relative_weights(weights, counts)
        rows = row_of_each(counts, embeds.shape[0])
        total = embeds.new_zeros(counts.shape[0], embeds.shape[1]).index_add(0, rows, embeds * share[:, None])
        return total / counts[:, None].to(embeds.dtype), strength


@dataclass(frozen=True)
class Average(ComposeChoice):
    """A token for each row."""

    per_row: ClassVar[int] = 1

    def build(self, width: int, max_images: int) -> nn.Module:
        return Mean()
