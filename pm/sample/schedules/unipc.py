"""UniPC (Zhao et al. 2023), second order: a predictor, and a corrector that costs no call of the U-Net."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pm.errors import ConfigError
from pm.sample.schedules.base import NoiseLevels, Plan, ScheduleChoice, Spacing, clean_from, make_multistep_plan
from pm.sample.schedules.sigmas import ends_clean, log_snr, signal_and_noise, solver_steps


@dataclass(frozen=True)
class Unipc(ScheduleChoice):
    """UniPC-2 of data prediction with B(h) = e^h - 1 ("bh2"), or h ("bh1"), as the base's config says.

    The corrector redoes the step that led to x once its x0 is known. It is linear in the clean estimates: a sum of x
    and three of them, so nothing but those is kept.
    """

    spacing: Spacing | None = None  # None: the base's own
    karras: bool | None = None  # noise levels of Karras et al. 2022, eq. 5; None: as the base says

    scheduler: ClassVar[str] = "UniPCMultistepScheduler"
    takes_timesteps: ClassVar[bool] = True
    takes_sigmas: ClassVar[bool] = True

    def plan(self, levels: NoiseLevels, steps: int, eta: float) -> Plan:
        config = levels.config
        most, skipped = config.get("solver_order", 2), config.get("disable_corrector") or ()
        if most not in (1, 2) or not config.get("predict_x0", True) or config.get("solver_p") is not None:
            raise ConfigError(
                f"solver_order={most}, predict_x0=false or solver_p of the base's scheduler_config.json is not "
                "supported with unipc; set solver_order to 2 and leave out the others"
            )
        t, sigma = solver_steps(levels, steps)
        signal, noise = signal_and_noise(sigma)
        x0_x, x0_out = clean_from(levels.prediction, signal[:-1], noise[:-1])
        time, bh1 = log_snr(sigma), config.get("solver_type") == "bh1"
        lower_final = config.get("lower_order_final", True) or ends_clean(levels)

        def order(i: int, known: int) -> int:
            """Of the predictor, and of the corrector that follows it."""
            return min(most, steps - i if lower_final else most, known + 1)

        def line(i: int, known: int) -> Sequence[float]:
            correction = np.zeros(3)  # of x, in units of x0 now, one step and two steps ago
            if known and i - 1 not in skipped:
                correction = _corrected(time, i, order(i - 1, known - 1), bh1) * signal[i]
            keep, estimates = noise[i + 1] / noise[i], np.zeros(3)
            h = time[i + 1] - time[i]
            if h > 0:  # with Karras' levels and no clean end the last two are the same
                estimates += np.array([-math.expm1(-h), 0, 0]) * signal[i + 1]
            if order(i, known) == 2 and h > 0:
                slope = _width(h, bh1) * h / (time[i] - time[i - 1]) / 2
                estimates += np.array([-slope, slope, 0]) * signal[i + 1]
            estimates += keep * correction
            now = estimates[0]
            return 1.0, keep + now * x0_x[i], now * x0_out[i], 0.0, x0_x[i], x0_out[i], *estimates[1:]

        return make_multistep_plan(t, line, 2, 1.0, (signal[:-1], noise[:-1]))


def _width(h: float, bh1: bool) -> float:
    """B(-h), with data prediction's sign."""
    return -h if bh1 else math.expm1(-h)


def _corrected(time: list[float], i: int, order: int, bh1: bool) -> np.ndarray:
    """What the corrector changes in x_i / alpha_i, as weights [3] of x0 at i, i - 1 and i - 2 (section 3.2, eq. 9).

    `order`: of the predictor that made x_i.
    """
    h = time[i] - time[i - 1]
    width = _width(h, bh1)
    if order == 1:
        return -width / 2 * np.array([1.0, -1.0, 0.0])
    back = (time[i - 2] - time[i - 1]) / h  # of the step before, in units of this one; negative
    phi = math.expm1(-h) / -h - 1
    wanted = np.array([phi, 2 * (phi / -h - 0.5)]) / width
    slope, last = np.linalg.solve(np.array([[1.0, 1.0], [back, 1.0]]), wanted)
    slope = (slope - 0.5) / back  # the predictor has had its half
    return -width * np.array([last, -last - slope, slope])
