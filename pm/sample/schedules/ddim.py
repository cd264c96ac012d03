"""DDIM (Song et al. 2021): the paper's sampler."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pm.errors import ConfigError
from pm.sample.schedules.base import NoiseLevels, Plan, ScheduleChoice, make_plan


@dataclass(frozen=True)
class Ddim(ScheduleChoice):
    """Eq. 12 and 16; with eta = 1 it adds as much noise as DDPM."""

    scheduler: ClassVar[str] = "DDIMScheduler"
    takes_eta: ClassVar[bool] = True

    def plan(self, levels: NoiseLevels, steps: int, eta: float) -> Plan:
        total, config = len(levels.alpha_bar), levels.config
        t = levels.timesteps(steps, config.get("timestep_spacing", "leading"), rounded=True)
        index = t.astype(int).clip(max=total - 1)
        before = index - total // steps
        final = 1.0 if config.get("set_alpha_to_one", True) else levels.alpha_bar[0]
        a = levels.alpha_bar[index]
        b = np.where(before >= 0, levels.alpha_bar[before.clip(min=0)], final)
        sigma = eta * np.sqrt((1 - b) / (1 - a) * (1 - a / b))
        x0_x, x0_out, eps_x, eps_out = _read(levels.prediction, a)
        signal, direction = np.sqrt(b), np.sqrt((1 - b - sigma**2).clip(min=0))
        keep, move = signal * x0_x + direction * eps_x, signal * x0_out + direction * eps_out
        columns = np.ones_like(a), keep, move, sigma, x0_x, x0_out
        return make_plan(t, columns, 1.0, (np.sqrt(a), np.sqrt(1 - a)))


def _read(prediction: str, a: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """x0 and eps as combinations of x and the U-Net's output, at alpha_bar `a`: (x0_x, x0_out, eps_x, eps_out)."""
    signal, noise, one, zero = np.sqrt(a), np.sqrt(1 - a), np.ones_like(a), np.zeros_like(a)
    if prediction == "v_prediction":
        return signal, -noise, noise, signal
    if prediction == "sample":
        return zero, one, 1 / noise, -signal / noise
    if (signal == 0).any():
        raise ConfigError("prediction_type=epsilon cannot start from pure noise (rescale_betas_zero_snr) with ddim")
    return 1 / signal, -noise / signal, zero, one
