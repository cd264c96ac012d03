"""Debiased weights (Yu et al. 2023): the noisiest steps, which decide a picture's layout and colours, count more."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pm.train.losses.choice import LossWeights

if TYPE_CHECKING:
    from torch import Tensor

    from pm.train.diffusion import NoiseSchedule


@dataclass(frozen=True)
class Debiased(LossWeights):
    """sqrt(SNR) in units of z_0; 1 / sqrt(SNR) in units of the noise."""

    def build(self, schedule: "NoiseSchedule") -> "Callable[[Tensor], Tensor]":
        from pm.train.losses.snr import by_snr

        return by_snr(schedule, lambda snr: snr.sqrt())
