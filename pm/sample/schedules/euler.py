"""Euler's method (Karras et al. 2022), the default of SDXL's own configuration."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pm.sample.schedules.base import NoiseLevels, Plan, ScheduleChoice, make_plan


@dataclass(frozen=True)
class Euler(ScheduleChoice):
    """Algorithm 1 without churn; latents are scaled so that noise has deviation sigma."""

    scheduler: ClassVar[str] = "EulerDiscreteScheduler"

    def plan(self, levels: NoiseLevels, steps: int, eta: float) -> Plan:
        a, config = levels.alpha_bar.copy(), levels.config
        if config.get("rescale_betas_zero_snr", False):
            a[-1] = 2**-24  # so that the first sigma is finite
        all_sigmas = np.sqrt((1 - a) / a)
        spacing = config.get("timestep_spacing", "linspace")
        t = levels.timesteps(steps, spacing, rounded=False)
        sigma = np.interp(t, np.arange(len(a)), all_sigmas)
        last = all_sigmas[0] if config.get("final_sigmas_type", "zero") == "sigma_min" else 0.0
        change = np.append(sigma[1:], last) - sigma
        scale = 1 / np.sqrt(sigma**2 + 1)
        x0_x, x0_out = {
            "epsilon": (np.ones_like(sigma), -sigma),
            "sample": (np.zeros_like(sigma), np.ones_like(sigma)),
            "v_prediction": (scale**2, -sigma * scale),
        }[levels.prediction]
        # x' = x + change * (x - x0) / sigma, the slope at x.
        keep, move = 1 + change / sigma * (1 - x0_x), -change / sigma * x0_out
        first = sigma.max() if spacing in ("linspace", "trailing") else np.sqrt(sigma.max() ** 2 + 1)
        columns = scale, keep, move, np.zeros_like(sigma), x0_x, x0_out
        return make_plan(t, columns, float(first), (np.ones_like(sigma), sigma))
