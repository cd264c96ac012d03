"""Strategic stochastic sampling of a trajectory consistency model (Zheng et al. 2024), also for Hyper-SD."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pm.sample.schedules.base import NoiseLevels, Plan, ScheduleChoice, clean_from, make_plan, noise_from
from pm.sample.schedules.lcm import distilled_timesteps


@dataclass(frozen=True)
class Tcd(ScheduleChoice):
    """Algorithm 4: a deterministic step to s, below the next timestep, and noise up to that; `eta` is gamma.

    eta = 0 takes DDIM's steps, eta = 1 jumps to the picture as a consistency model does.
    """

    scheduler: ClassVar[str] = "TCDScheduler"
    takes_eta: ClassVar[bool] = True

    def plan(self, levels: NoiseLevels, steps: int, eta: float) -> Plan:
        t = distilled_timesteps(levels, steps, self.name)
        after = np.append(t[1:], 0)
        # In single precision, as diffusers has it: the product may be a whole number, and is rounded down.
        below = np.floor(np.float32(1 - eta) * after.astype(np.float32)).astype(int)
        a, b, s = levels.alpha_bar[t], levels.alpha_bar[after], levels.alpha_bar[below]
        signal, noise = np.sqrt(a), np.sqrt(1 - a)
        x0_x, x0_out = clean_from(levels.prediction, signal, noise)
        eps_x, eps_out = noise_from(levels.prediction, signal, noise)
        up = np.sqrt(b / s)
        up[-1] = 1.0
        fresh = np.sqrt((1 - b / s).clip(min=0))
        fresh[-1] = 0.0
        keep = up * (np.sqrt(s) * x0_x + np.sqrt(1 - s) * eps_x)
        move = up * (np.sqrt(s) * x0_out + np.sqrt(1 - s) * eps_out)
        return make_plan(t.astype(float), (np.ones_like(a), keep, move, fresh, x0_x, x0_out), 1.0, (signal, noise))
