"""The kind of parts that say which steps lead from noise to a picture, and the table that every one of them fills.

Every step of every schedule is x' = keep x + move out + noise e. So rows with different schedules, step counts and
positions advance in one vectorised call, and a step has no branch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from pm.choice import Choice, find_part, part_names
from pm.errors import ConfigError

if TYPE_CHECKING:  # configurations are read by programs that need no torch
    from torch import Tensor

INPUT_SCALE, KEEP, MOVE, NOISE, CLEAN_KEEP, CLEAN_MOVE = range(6)


@dataclass(frozen=True)
class Plan:
    """The schedule of one row with S steps."""

    timesteps: Tensor  # [S] float32, descending; Euler with linear spacing has fractions
    table: Tensor  # [S, 6] float32: input scale; keep, move, noise of a step; keep, move of the clean estimate
    init_sigma: float  # standard deviation of the first latents
    # [S + 1, 2] float32: signal and noise in the latents before each step, x = signal x0 + noise e; the end is (1, 0).
    levels: Tensor

    @property
    def steps(self) -> int:
        return self.timesteps.shape[0]


@dataclass(frozen=True)
class NoiseLevels:
    """How the base was trained to see noise."""

    alpha_bar: np.ndarray  # [T] float64
    prediction: str  # of `pm.model.noise.PREDICTIONS`
    config: Mapping[str, Any]  # diffusers' scheduler_config.json: spacing, offset, ends

    def timesteps(self, steps: int, spacing: str, rounded: bool) -> np.ndarray:
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


@dataclass(frozen=True)
class ScheduleChoice(Choice, group="schedule", package="pm.sample.schedules"):
    """Which steps are taken. Spacing, offsets and ends are the base's own (`NoiseLevels.config`)."""

    name: str

    scheduler: ClassVar[str]  # diffusers' class with the same steps
    takes_eta: ClassVar[bool] = False  # whether it can add noise on the way (eta above 0)

    def plan(self, levels: NoiseLevels, steps: int, eta: float) -> Plan:
        """The plan for `steps` steps, 1 to T; `eta` in 0..1 is 0 unless the schedule takes it.

        Raises:
            ConfigError: the base's noise process does not go with it.
        """
        raise NotImplementedError


def schedule_like(scheduler: str) -> ScheduleChoice | None:
    """The schedule with the steps of a diffusers class; None: there is none."""
    return schedules().get(scheduler)


def schedules() -> dict[str, ScheduleChoice]:
    """Diffusers' classes, and our own and installed schedules with the same steps, of those without settings."""
    found = ((name, find_part(ScheduleChoice, name)) for name in part_names(ScheduleChoice))
    return {kind.scheduler: kind(name) for name, kind in found if len(dataclasses.fields(kind)) == 1}


def make_plan(
    timesteps: np.ndarray,
    columns: tuple[np.ndarray, ...],
    init_sigma: float,
    levels: tuple[np.ndarray, np.ndarray],
) -> Plan:
    """A plan from timesteps [S], the six columns of its table and signal and noise before each step, each [S]."""
    import torch

    table = torch.from_numpy(np.stack(columns, axis=1)).float()
    before = np.concatenate([np.stack(levels, axis=1), [[1.0, 0.0]]])
    return Plan(torch.from_numpy(timesteps.copy()).float(), table, init_sigma, torch.from_numpy(before).float())
