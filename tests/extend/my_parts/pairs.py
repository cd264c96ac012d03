"""`compose=pairs`: two tokens for each photo, its embedding and a learned second view of it."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge
from torch import Tensor, nn

from pm.model.compose.base import ComposeChoice


@dataclass(frozen=True)
class Pairs(ComposeChoice):
    blend: Annotated[float, Ge(0)]  # how much of the second token is learned; 0: it repeats the first

    per_photo: ClassVar[int] = 2

    def build(self, width: int, max_images: int) -> nn.Module:
        return SecondView(width, self.blend)


class SecondView(nn.Module):
    def __init__(self, width: int, blend: float) -> None:
        super().__init__()
        self.blend = blend
        self.view = nn.Linear(width, width)
        nn.init.zeros_(self.view.weight)  # training starts with the photo's own embedding twice
        nn.init.zeros_(self.view.bias)

    def forward(self, embeds: Tensor, counts: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        second = embeds + self.blend * self.view(embeds)
        # The tokens of a photo follow each other: [M, 2, D] to [2M, D].
        return torch.stack([embeds, second], dim=1).flatten(0, 1), weights.repeat_interleave(2)
