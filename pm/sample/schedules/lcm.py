"""Multistep sampling of a latent consistency model (Luo et al. 2023): jump to the picture, and half the way back."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from pm.errors import RequestError
from pm.sample.schedules.base import NoiseLevels, Plan, ScheduleChoice, clean_from, make_plan

SIGMA_DATA = 0.5  # of eq. 9 there, as in diffusers


@dataclass(frozen=True)
class Lcm(ScheduleChoice):
    """Algorithm 3: the clean estimate with boundary conditions, noised anew for the next step."""

    scheduler: ClassVar[str] = "LCMScheduler"
    takes_timesteps: ClassVar[bool] = True

    def plan(self, levels: NoiseLevels, steps: int, eta: float) -> Plan:
        t = distilled_timesteps(levels, steps, self.name)
        a = levels.alpha_bar[t]
        signal, noise = np.sqrt(a), np.sqrt(1 - a)
        x0_x, x0_out = clean_from(levels.prediction, signal, noise)
        skip, out = boundary(t, float(levels.config.get("timestep_scaling", 10.0)))
        clean_x, clean_out = out * x0_x + skip, out * x0_out
        onward, fresh = np.append(signal[1:], 1.0), np.append(noise[1:], 0.0)
        columns = np.ones_like(a), onward * clean_x, onward * clean_out, fresh, clean_x, clean_out
        return make_plan(t.astype(float), columns, 1.0, (signal, noise))


def distilled_timesteps(levels: NoiseLevels, steps: int, schedule: str) -> np.ndarray:
    """[S] int64: `steps` of the timesteps that a model was distilled at, from the noisiest, evenly in their list.

    Raises:
        RequestError: it was distilled at fewer.
    """
    if levels.given is not None:
        return levels.given.round().astype(int)
    total = len(levels.alpha_bar)
    most = min(int(levels.config.get("original_inference_steps", 50)), total)
    if steps > most:
        raise RequestError(f"steps={steps} is out of range with schedule={schedule}; use 1 to {most}, 4 to 8 is usual")
    trained = np.arange(1, most + 1)[::-1] * (total // most) - 1
    return trained[np.floor(np.linspace(0, most, steps, endpoint=False)).astype(int)]


def boundary(t: Any, scaling: float) -> tuple[Any, Any]:
    """c_skip and c_out, by which f(x, 0) = x holds (eq. 9): of timesteps, each as `t`, an array or a tensor."""
    scaled = t * scaling
    return SIGMA_DATA**2 / (scaled**2 + SIGMA_DATA**2), scaled / (scaled**2 + SIGMA_DATA**2) ** 0.5
