"""Ancestral sampling with Euler steps (k-diffusion's `sample_euler_ancestral`): each step adds fresh noise."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pm.sample.schedules.base import NoiseLevels, Plan, ScheduleChoice, Spacing
from pm.sample.schedules.euler import euler_plan
from pm.sample.schedules.sigmas import trained_sigmas


@dataclass(frozen=True)
class EulerAncestral(ScheduleChoice):
    """A step down below the next noise level, and noise up to it: the variances are those of DDPM's posterior."""

    spacing: Spacing | None = None  # None: the base's own

    scheduler: ClassVar[str] = "EulerAncestralDiscreteScheduler"
    takes_timesteps: ClassVar[bool] = True

    def plan(self, levels: NoiseLevels, steps: int, eta: float) -> Plan:
        trained = trained_sigmas(levels)
        t = levels.timesteps(steps, levels.config.get("timestep_spacing", "linspace"), rounded=False)
        sigma = np.interp(t, np.arange(len(trained)), trained)
        after = np.append(sigma[1:], 0.0)
        up = np.sqrt(after**2 * (sigma**2 - after**2) / sigma**2)
        return euler_plan(levels, t, sigma, np.sqrt(after**2 - up**2), up)
