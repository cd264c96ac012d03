"""What rules for loss weights that go by the signal-to-noise ratio share."""

from collections.abc import Callable

import torch
from torch import Tensor

from pm.train.diffusion import NoiseSchedule


def by_snr(schedule: NoiseSchedule, weight: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """A rule in the units of the prediction, from one in units of z_0.

    Args:
        schedule: the base's noise levels and what it predicts.
        weight: SNR [B] float32 -> weight [B] of a squared error in z_0.

    Returns:
        timesteps [B] int64 -> weight [B] float32 of a squared error in what the U-Net predicts.
    """

    def rule(timesteps: Tensor) -> Tensor:
        signal_level, noise_level = (level.flatten() for level in schedule.at(timesteps))
        # Clamped for a zero-terminal-SNR end, whose signal is zero, and for a start without noise.
        snr = (signal_level.square() / noise_level.square().clamp_min(1e-12)).clamp_min(1e-4)
        # One unit of squared error in z_0 is this much in the units of the prediction.
        return (
            weight(snr) / {"sample": torch.ones_like(snr), "v_prediction": snr + 1, "epsilon": snr}[schedule.prediction]
        )

    return rule
