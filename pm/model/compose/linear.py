"""One token for each row: a learned projection of its photos' embeddings."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from pm.model.compose.base import ComposeChoice
from pm.model.ragged import pad_ragged, relative_weights


class Projection(nn.Module):
    """A learned projection of up to N_max embeddings.

    Fewer than N_max are padded with zeros and scaled by N_max / N, so the input's magnitude does not depend on N. The
    projection starts as the mean over the slots: training starts where `average` is and moves from there.
    """

    def __init__(self, width: int, max_images: int) -> None:
        super().__init__()
        self.max_images = max_images
        self.projection = nn.Linear(max_images * width, width)
        with torch.no_grad():
            self.projection.weight.copy_(torch.eye(width).repeat(1, max_images) / max_images)
            self.projection.bias.zero_()

    def forward(self, embeds: Tensor, counts: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Projections [B, D] and each row's strength [B], the mean of its weights."""
        share, strength = relative_weights(weights, counts)
        padded = pad_ragged(embeds * share[:, None], counts, self.max_images)
        scale = self.max_images / counts[:, None].to(embeds.dtype)
        return self.projection(padded.flatten(1) * scale), strength


@dataclass(frozen=True)
class Linear(ComposeChoice):
    """A token for each row."""

    per_row: ClassVar[int] = 1

    def build(self, width: int, max_images: int) -> nn.Module:
        return Projection(width, max_images)
