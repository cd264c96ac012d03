"""A composer of somebody else: two tokens for each photo, of which the second leans to the row's mean."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge
from torch import Tensor, nn

from pm.model.compose.base import ComposeChoice
from pm.model.ragged import row_of_each


class Pairs(nn.Module):
    def __init__(self, width: int, lean: float) -> None:
        super().__init__()
        self.lean = nn.Parameter(torch.full((width,), lean))

    def forward(self, embeds: Tensor, counts: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        rows = row_of_each(counts, embeds.shape[0])
        mean = embeds.new_zeros(counts.shape[0], embeds.shape[1]).index_add(0, rows, embeds) / counts[:, None]
        second = embeds + self.lean.to(embeds) * (mean[rows] - embeds)
        return torch.stack([embeds, second], 1).flatten(0, 1), weights.repeat_interleave(2)


@dataclass(frozen=True)
class TwoTokens(ComposeChoice):
    lean: Annotated[float, Ge(0)]
    per_photo: ClassVar[int] = 2

    def build(self, width: int, max_images: int) -> nn.Module:
        return Pairs(width, self.lean)
