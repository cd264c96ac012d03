"""DDIM and Euler as one table per row: every step of either is x' = keep x + move out + noise e.

So rows with different schedules, step counts and positions advance in one vectorised call, and a step has no branch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pm.errors import ConfigError, RequestError
from pm.model.noise import alpha_bar, prediction_type

SCHEDULES = ("ddim", "euler")
INPUT_SCALE, KEEP, MOVE, NOISE, CLEAN_KEEP, CLEAN_MOVE = range(6)


@dataclass(frozen=True)
class Plan:
    """The schedule of one row with S steps."""

    timesteps: Tensor  # [S] float32, descending; Euler with linear spacing has fractions
    table: Tensor  # [S, 6] float32: input scale; keep, move, noise of a step; keep, move of the clean estimate
    init_sigma: float  # standard deviation of the first latents

    @property
    def steps(self) -> int:
        return self.timesteps.shape[0]


class Schedule:
    """Makes the plans for one base model."""

    def __init__(self, kind: str | None, config: Mapping[str, Any]) -> None:
        """Read a schedule's settings.

        Args:
            kind: "ddim", "euler", or None: the one whose diffusers class wrote `config`; DDIM for other classes.
            config: the base's scheduler_config.json, whatever class wrote it.

        Raises:
            ConfigError: a kind or a setting we do not have.
        """
        if kind is None:
            kind = "euler" if config.get("_class_name") == "EulerDiscreteScheduler" else "ddim"
        if kind not in SCHEDULES:
            raise ConfigError(f"schedule={kind!r} is not one of {', '.join(SCHEDULES)}")
        for name in ("clip_sample", "thresholding", "use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas"):
            if config.get(name):
                raise ConfigError(f"{name}=true in the base's scheduler_config.json is not supported; set it to false")
        self.kind, self.config = kind, dict(config)
        self.prediction = prediction_type(config)
        self.alpha_bar = alpha_bar(config).numpy()
        self.plan = lru_cache(maxsize=64)(self._plan)

    def _plan(self, steps: int, eta: float = 0.0) -> Plan:
        """The plan for `steps` steps; `eta` is DDIM's added noise (0 none, 1 DDPM).

        Raises:
            RequestError: more steps than the base was trained with, or eta with a schedule that adds no noise.
        """
        if not 1 <= steps <= len(self.alpha_bar):
            raise RequestError(f"steps={steps} is out of range; use 1 to {len(self.alpha_bar)}")
        if not 0 <= eta <= 1:
            raise RequestError(f"eta={eta} is out of range; use 0 to 1")
        if self.kind == "ddim":
            return self._ddim(steps, eta)
        if eta > 0:
            raise RequestError(f"eta={eta} needs schedule=ddim; {self.kind} adds no noise")
        return self._euler(steps)

    def _timesteps(self, steps: int, spacing: str, rounded: bool) -> np.ndarray:
        """Descending timesteps, [S] float64 (Table 2 of Lin et al. 2024)."""
        total, offset = len(self.alpha_bar), int(self.config.get("steps_offset", 0))
        if spacing == "leading":
            return np.arange(steps)[::-1] * float(total // steps) + offset
        if spacing == "linspace":
            values = np.linspace(0, total - 1, steps)[::-1]
            return values.round() if rounded else values
        if spacing == "trailing":
            return np.arange(total, 0, -total / steps).round() - 1
        raise ConfigError(f"timestep_spacing={spacing!r} of the base's scheduler is not leading, linspace or trailing")

    def _ddim(self, steps: int, eta: float) -> Plan:
        """Song et al. 2021, eq. 12 and 16."""
        total = len(self.alpha_bar)
        t = self._timesteps(steps, self.config.get("timestep_spacing", "leading"), rounded=True)
        index = t.astype(int).clip(max=total - 1)
        before = index - total // steps
        final = 1.0 if self.config.get("set_alpha_to_one", True) else self.alpha_bar[0]
        a, b = self.alpha_bar[index], np.where(before >= 0, self.alpha_bar[before.clip(min=0)], final)
        sigma = eta * np.sqrt((1 - b) / (1 - a) * (1 - a / b))
        x0_x, x0_out, eps_x, eps_out = self._read(a)
        signal, direction = np.sqrt(b), np.sqrt((1 - b - sigma**2).clip(min=0))
        keep, move = signal * x0_x + direction * eps_x, signal * x0_out + direction * eps_out
        return _plan_of(t, (np.ones_like(a), keep, move, sigma, x0_x, x0_out), 1.0)

    def _read(self, a: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """x0 and eps as combinations of x and the U-Net's output, at alpha_bar `a`: (x0_x, x0_out, eps_x, eps_out)."""
        signal, noise, one, zero = np.sqrt(a), np.sqrt(1 - a), np.ones_like(a), np.zeros_like(a)
        if self.prediction == "v_prediction":
            return signal, -noise, noise, signal
        if self.prediction == "sample":
            return zero, one, 1 / noise, -signal / noise
        if (signal == 0).any():
            raise ConfigError("prediction_type=epsilon cannot start from pure noise (rescale_betas_zero_snr) with ddim")
        return 1 / signal, -noise / signal, zero, one

    def _euler(self, steps: int) -> Plan:
        """Karras et al. 2022, algorithm 1 without churn; latents are scaled so that noise has deviation sigma."""
        a = self.alpha_bar.copy()
        if self.config.get("rescale_betas_zero_snr", False):
            a[-1] = 2**-24  # so that the first sigma is finite
        all_sigmas = np.sqrt((1 - a) / a)
        spacing = self.config.get("timestep_spacing", "linspace")
        t = self._timesteps(steps, spacing, rounded=False)
        sigma = np.interp(t, np.arange(len(a)), all_sigmas)
        last = all_sigmas[0] if self.config.get("final_sigmas_type", "zero") == "sigma_min" else 0.0
        change = np.append(sigma[1:], last) - sigma
        scale = 1 / np.sqrt(sigma**2 + 1)
        x0_x, x0_out = {
            "epsilon": (np.ones_like(sigma), -sigma),
            "sample": (np.zeros_like(sigma), np.ones_like(sigma)),
            "v_prediction": (scale**2, -sigma * scale),
        }[self.prediction]
        # x' = x + change * (x - x0) / sigma, the slope at x.
        keep, move = 1 + change / sigma * (1 - x0_x), -change / sigma * x0_out
        first = sigma.max() if spacing in ("linspace", "trailing") else np.sqrt(sigma.max() ** 2 + 1)
        return _plan_of(t, (scale, keep, move, np.zeros_like(sigma), x0_x, x0_out), float(first))


def advance(latents: Tensor, output: Tensor, table: Tensor, noise: Tensor | None = None) -> Tensor:
    """One step of B rows: latents and U-Net output [B, C, h, w], each row's line of its table [B, 6], noise or None."""
    result = _mixed(latents, output, table, KEEP, MOVE)
    return result if noise is None else result + table[:, NOISE].view(-1, 1, 1, 1) * noise


def clean_estimate(latents: Tensor, output: Tensor, table: Tensor) -> Tensor:
    """What the picture would be if the U-Net were right at once (x0), from the same arguments as `advance`."""
    return _mixed(latents, output, table, CLEAN_KEEP, CLEAN_MOVE)


def _mixed(latents: Tensor, output: Tensor, table: Tensor, keep: int, move: int) -> Tensor:
    return table[:, keep].view(-1, 1, 1, 1) * latents + table[:, move].view(-1, 1, 1, 1) * output


def _plan_of(t: np.ndarray, columns: tuple[np.ndarray, ...], init: float) -> Plan:
    return Plan(torch.from_numpy(t.copy()).float(), torch.from_numpy(np.stack(columns, axis=1)).float(), init)
