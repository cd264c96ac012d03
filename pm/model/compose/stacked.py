"""One token for each photo: the paper's stacked ID embedding (eq. 1)."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from pm.model.compose.base import ComposeChoice


class Stack(nn.Module):
    """Embeddings [M, D] and weights [M] as they are."""

    def forward(self, embeds: Tensor, counts: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        return embeds, weights


@dataclass(frozen=True)
class Stacked(ComposeChoice):
    """A token for each photo."""

    per_photo: ClassVar[int] = 1

    def build(self, width: int, max_images: int) -> nn.Module:
        return Stack()
