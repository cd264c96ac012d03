"""The kind `loss_weights`: how much the loss counts at each noise level (`conf/loss_weights/*.yaml`)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pm.choice import Choice

if TYPE_CHECKING:
    from torch import Tensor

    from pm.train.diffusion import NoiseSchedule


@dataclass(frozen=True)
class LossWeights(Choice, group="loss_weights", package="pm.train.losses"):
    """A rule for the weight of a sample's loss, from its timestep."""

    name: str

    def build(self, schedule: "NoiseSchedule") -> "Callable[[Tensor], Tensor]":
        """The rule for a base's noise levels: timesteps [B] int64 -> weights [B] float32 on the same device."""
        raise NotImplementedError
