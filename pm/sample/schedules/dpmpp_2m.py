"""DPM-Solver++ (Lu et al. 2022), second order, multistep: 20 steps for what DDIM needs 50 for."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from pm.errors import ConfigError
from pm.sample.schedules.base import NoiseLevels, Plan, ScheduleChoice, Spacing, clean_from, make_multistep_plan
from pm.sample.schedules.sigmas import ends_clean, log_snr, signal_and_noise, solver_steps

_FEW = 15  # below so many steps the last one is of first order, for stability


@dataclass(frozen=True)
class DpmPp2M(ScheduleChoice):
    """Algorithm 2, in its own two variants of the second-order term (midpoint, heun)."""

    spacing: Spacing | None = None  # None: the base's own
    karras: bool | None = None  # noise levels of Karras et al. 2022, eq. 5; None: as the base says

    scheduler: ClassVar[str] = "DPMSolverMultistepScheduler"
    takes_timesteps: ClassVar[bool] = True
    takes_sigmas: ClassVar[bool] = True
    algorithms: ClassVar[tuple[str, ...]] = ("dpmsolver++", "deis")  # diffusers runs "deis" as the other
    stochastic: ClassVar[bool] = False

    @classmethod
    def fits(cls, config: Mapping[str, Any]) -> bool:
        return config.get("algorithm_type", "dpmsolver++") in cls.algorithms

    def settings(self, config: Mapping[str, Any]) -> dict[str, Any]:
        own = {} if self.fits(config) else {"algorithm_type": self.algorithms[0]}
        return {**super().settings(config), **own}

    def plan(self, levels: NoiseLevels, steps: int, eta: float) -> Plan:
        config = levels.config
        order = config.get("solver_order", 2)
        if order not in (1, 2) or config.get("lambda_min_clipped", -math.inf) > -math.inf:
            raise ConfigError(
                f"solver_order={order} or lambda_min_clipped of the base's scheduler_config.json is not supported with "
                f"{self.name}; set solver_order to 2 and leave out the other"
            )
        t, sigma = solver_steps(levels, steps, rounded=config.get("beta_schedule") != "squaredcos_cap_v2")
        signal, noise = signal_and_noise(sigma)
        x0_x, x0_out = clean_from(levels.prediction, signal[:-1], noise[:-1])
        time, heun = log_snr(sigma), config.get("solver_type") == "heun"
        few = config.get("lower_order_final", True) and steps < _FEW
        first_at_end = config.get("euler_at_final", False) or few or ends_clean(levels)

        def line(i: int, known: int) -> Sequence[float]:
            h = time[i + 1] - time[i]
            shrink = math.exp(-2 * h) if self.stochastic else math.exp(-h)
            keep = noise[i + 1] / noise[i] * (math.exp(-h) if self.stochastic else 1.0)
            now, before = signal[i + 1] * (1 - shrink), 0.0
            if known and order == 2 and h != 0 and not (i == steps - 1 and first_at_end):
                ratio = (time[i] - time[i - 1]) / h
                # The slope of x0 in time, (now - before) / ratio, counts half; heun integrates it exactly.
                half = signal[i + 1] * ((shrink - 1) / (2 * h if self.stochastic else h) + 1) if heun else now / 2
                now, before = now + half / ratio, -half / ratio
            fresh = noise[i + 1] * math.sqrt(1 - math.exp(-2 * h)) if self.stochastic else 0.0
            return 1.0, keep + now * x0_x[i], now * x0_out[i], fresh, x0_x[i], x0_out[i], before

        return make_multistep_plan(t, line, 1, 1.0, (signal[:-1], noise[:-1]))
