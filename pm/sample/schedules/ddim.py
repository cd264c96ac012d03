"""DDIM (Song et al. 2021): the paper's sampler."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pm.errors import ConfigError
from pm.sample.schedules.base import NoiseLevels, Plan, ScheduleChoice, Spacing, clean_from, make_plan, noise_from


@dataclass(frozen=True)
class Ddim(ScheduleChoice):
    """Eq. 12 and 16; with eta = 1 it adds as much noise as DDPM."""

    spacing: Spacing | None = None  # None: the base's own

    scheduler: ClassVar[str] = "DDIMScheduler"
    takes_eta: ClassVar[bool] = True
    takes_timesteps: ClassVar[bool] = True

    def plan(self, levels: NoiseLevels, steps: int, eta: float) -> Plan:
        total, config = len(levels.alpha_bar), levels.config
        t = levels.timesteps(steps, config.get("timestep_spacing", "leading"), rounded=True)
        index = t.astype(int).clip(max=total - 1)
        before = index - total // steps if levels.given is None else np.append(index[1:], -1)
        final = 1.0 if config.get("set_alpha_to_one", True) else levels.alpha_bar[0]
        a = levels.alpha_bar[index]
        b = np.where(before >= 0, levels.alpha_bar[before.clip(min=0)], final)
        sigma = eta * np.sqrt((1 - b) / (1 - a) * (1 - a / b))
        signal, noise = np.sqrt(a), np.sqrt(1 - a)
        if levels.prediction == "epsilon" and (signal == 0).any():
            raise ConfigError("prediction_type=epsilon cannot start from pure noise (rescale_betas_zero_snr) with ddim")
        x0_x, x0_out = clean_from(levels.prediction, signal, noise)
        eps_x, eps_out = noise_from(levels.prediction, signal, noise)
        onward, direction = np.sqrt(b), np.sqrt((1 - b - sigma**2).clip(min=0))
        keep, move = onward * x0_x + direction * eps_x, onward * x0_out + direction * eps_out
        return make_plan(t, (np.ones_like(a), keep, move, sigma, x0_x, x0_out), 1.0, (signal, noise))
