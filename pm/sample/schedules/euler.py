"""Euler's method (Karras et al. 2022), the default of SDXL's own configuration."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pm.errors import ConfigError
from pm.sample.schedules.base import NoiseLevels, Plan, ScheduleChoice, Spacing, make_plan
from pm.sample.schedules.sigmas import ends_clean, karras, timestep_of, trained_sigmas


@dataclass(frozen=True)
class Euler(ScheduleChoice):
    """Algorithm 1 without churn; latents are scaled so that noise has deviation sigma."""

    spacing: Spacing | None = None  # None: the base's own
    karras: bool | None = None  # noise levels of Karras et al., eq. 5; None: as the base says

    scheduler: ClassVar[str] = "EulerDiscreteScheduler"
    takes_timesteps: ClassVar[bool] = True
    takes_sigmas: ClassVar[bool] = True

    def plan(self, levels: NoiseLevels, steps: int, eta: float) -> Plan:
        config, trained = levels.config, trained_sigmas(levels)
        if config.get("interpolation_type", "linear") != "linear" or config.get("timestep_type") == "continuous":
            raise ConfigError(
                "interpolation_type and timestep_type of the base's scheduler_config.json are supported as linear and "
                "discrete with euler; choose another schedule, such as ddim"
            )
        t = levels.timesteps(steps, config.get("timestep_spacing", "linspace"), rounded=False)
        sigma = np.interp(t, np.arange(len(trained)), trained)
        if config.get("use_karras_sigmas") and levels.given is None:
            largest, smallest = config.get("sigma_max") or sigma[0], config.get("sigma_min") or sigma[-1]
            sigma = karras(largest, smallest, steps)
            t = timestep_of(sigma, trained)
        last = 0.0 if ends_clean(levels) else trained[0]
        if levels.given_sigmas is not None:
            sigma, last = levels.given_sigmas[:-1], levels.given_sigmas[-1]
        target = np.append(sigma[1:], last)
        return euler_plan(levels, t, sigma, target, np.zeros_like(sigma))


def euler_plan(levels: NoiseLevels, t: np.ndarray, sigma: np.ndarray, target: np.ndarray, fresh: np.ndarray) -> Plan:
    """Steps along the slope at x from `sigma` down to `target`, and `fresh` noise then, each [S]."""
    scale = 1 / np.sqrt(sigma**2 + 1)
    x0_x, x0_out = {
        "epsilon": (np.ones_like(sigma), -sigma),
        "sample": (np.zeros_like(sigma), np.ones_like(sigma)),
        "v_prediction": (scale**2, -sigma * scale),
    }[levels.prediction]
    # x' = x + (target - sigma) * (x - x0) / sigma.
    change = target - sigma
    keep, move = 1 + change / sigma * (1 - x0_x), -change / sigma * x0_out
    spacing = levels.config.get("timestep_spacing", "linspace")
    first = sigma.max() if spacing in ("linspace", "trailing") else np.sqrt(sigma.max() ** 2 + 1)
    return make_plan(t, (scale, keep, move, fresh, x0_x, x0_out), float(first), (np.ones_like(sigma), sigma))
