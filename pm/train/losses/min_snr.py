"""Min-SNR weights (Hang et al. 2023): nearly clean pictures, which are easy, count less."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Gt

from pm.train.losses.choice import LossWeights

if TYPE_CHECKING:
    from torch import Tensor

    from pm.train.diffusion import NoiseSchedule


@dataclass(frozen=True)
class MinSnr(LossWeights):
    """min(SNR, gamma) in units of z_0 (eq. 4 there)."""

    gamma: Annotated[float, Gt(0)]

    def build(self, schedule: "NoiseSchedule") -> "Callable[[Tensor], Tensor]":
        from pm.train.losses.snr import by_snr

        return by_snr(schedule, lambda snr: snr.clamp(max=self.gamma))
