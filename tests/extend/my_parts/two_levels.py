"""`loss_weights=two_levels`: noisy steps, which decide the layout, count differently from those that draw details."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge

from pm.train.losses.choice import LossWeights

if TYPE_CHECKING:
    from torch import Tensor

    from pm.train.diffusion import NoiseSchedule


@dataclass(frozen=True)
class TwoLevels(LossWeights):
    boundary: Annotated[int, Ge(0)]  # timestep; 0 is nearly clean
    below: Annotated[float, Ge(0)]
    above: Annotated[float, Ge(0)]  # the boundary included

    def build(self, schedule: "NoiseSchedule") -> "Callable[[Tensor], Tensor]":
        import torch

        return lambda timesteps: torch.where(timesteps < self.boundary, self.below, self.above)
