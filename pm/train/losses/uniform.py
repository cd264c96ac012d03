"""Every noise level counts the same, as in the paper."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pm.train.losses.choice import LossWeights

if TYPE_CHECKING:
    from torch import Tensor

    from pm.train.diffusion import NoiseSchedule


@dataclass(frozen=True)
class Uniform(LossWeights):
    """Weight 1."""

    def build(self, schedule: "NoiseSchedule") -> "Callable[[Tensor], Tensor]":
        import torch

        return lambda timesteps: torch.ones_like(timesteps, dtype=torch.float32)
