"""Noise levels as sigma, the ratio of noise to signal, in which Karras et al. and Lu et al. write their solvers."""

import math

import numpy as np

from pm.errors import ConfigError
from pm.sample.schedules.base import NoiseLevels

RHO = 7.0  # Karras et al. 2022, section 3


def trained_sigmas(levels: NoiseLevels) -> np.ndarray:
    """Sigma of every training timestep, [T] float64, ascending; the last is finite also where it is pure noise."""
    a = levels.alpha_bar.copy()
    if levels.config.get("rescale_betas_zero_snr", False):
        a[-1] = 2**-24
    return np.sqrt((1 - a) / a)


def karras(largest: float, smallest: float, steps: int) -> np.ndarray:
    """Descending sigmas [S] that are even in sigma^(1 / rho) (Karras et al. 2022, eq. 5)."""
    ramp = np.linspace(0, 1, steps)
    return (largest ** (1 / RHO) + ramp * (smallest ** (1 / RHO) - largest ** (1 / RHO))) ** RHO


def timestep_of(sigma: np.ndarray, trained: np.ndarray) -> np.ndarray:
    """The timesteps, as fractions, at which the base was trained with `sigma`; straight lines in log sigma between."""
    return np.interp(np.log(np.maximum(sigma, 1e-10)), np.log(trained), np.arange(len(trained)))


def ends_clean(levels: NoiseLevels) -> bool:
    """Whether the last step leads to sigma 0, and not to the smallest that the base was trained with.

    Raises:
        ConfigError: a `final_sigmas_type` that we do not know.
    """
    if levels.given_sigmas is not None:
        return bool(levels.given_sigmas[-1] == 0)
    kind = levels.config.get("final_sigmas_type", "zero")
    if kind not in ("zero", "sigma_min"):
        raise ConfigError(f"final_sigmas_type={kind!r} of the base's scheduler is not zero or sigma_min")
    return kind == "zero"


def solver_steps(levels: NoiseLevels, steps: int, rounded: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """What the multistep solvers of diffusers take: timesteps [S], and sigmas [S + 1] with the one that they end at.

    `rounded`: timesteps of Karras' levels are rounded to the nearest, not down.
    """
    config, trained = levels.config, trained_sigmas(levels)
    if levels.given_sigmas is not None and levels.given is not None:
        return levels.given.round(), levels.given_sigmas
    if levels.given is not None:
        t = levels.given.round()
        sigma = trained[t.astype(int)]
    elif config.get("use_karras_sigmas"):
        sigma = karras(trained[-1], trained[0], steps)
        t = timestep_of(sigma, trained)
        t = t.round() if rounded else np.floor(t)
    else:
        t = _between(levels, steps, config.get("timestep_spacing", "linspace"))
        sigma = trained[t.astype(int)]
    return t, np.append(sigma, 0.0 if ends_clean(levels) else trained[0])


def _between(levels: NoiseLevels, steps: int, spacing: str) -> np.ndarray:
    """Timesteps without the last one, which these solvers leave out: the step to it is what they end with."""
    total, offset = len(levels.alpha_bar), int(levels.config.get("steps_offset", 0))
    if spacing == "leading":
        return np.arange(steps + 1)[:0:-1] * float(total // (steps + 1)) + offset
    if spacing == "linspace":
        return np.linspace(0, total - 1, steps + 1).round()[:0:-1]
    return levels.timesteps(steps, spacing, rounded=True)


def signal_and_noise(sigma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """alpha and sigma of latents of unit variance, from their ratio."""
    signal = 1 / np.sqrt(sigma**2 + 1)
    return signal, sigma * signal


def log_snr(sigma: np.ndarray) -> list[float]:
    """lambda = log(alpha / sigma), the time of these solvers; infinite at the clean end."""
    return [math.inf if each == 0 else -math.log(each) for each in sigma.tolist()]
