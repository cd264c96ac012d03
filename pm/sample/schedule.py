"""One schedule for one base: its plans, and the step that all rows take together."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from torch import Tensor

from pm.config import from_mapping
from pm.errors import ConfigError, RequestError
from pm.model.noise import alpha_bar, prediction_type
from pm.sample.schedules.base import (
    CLEAN_KEEP,
    CLEAN_MOVE,
    KEEP,
    MOVE,
    NOISE,
    PAST,
    NoiseLevels,
    Plan,
    ScheduleChoice,
    schedule_like,
)
from pm.sample.schedules.sigmas import timestep_of, trained_sigmas

_UNSUPPORTED = (
    "clip_sample",
    "thresholding",
    "use_exponential_sigmas",
    "use_beta_sigmas",
    "use_flow_sigmas",
    "use_lu_lambdas",
)


class Schedule:
    """Makes the plans for one base model."""

    def __init__(self, choice: ScheduleChoice | str | None, config: Mapping[str, Any]) -> None:
        """Read a schedule's settings.

        Args:
            choice: a schedule, or its name; None: the one whose diffusers class wrote `config`, DDIM for other classes.
            config: the base's noise process, as a diffusers scheduler config.

        Raises:
            ConfigError: a schedule or a setting we do not have.
        """
        if choice is None:
            choice = schedule_like(str(config.get("_class_name")), config) or "ddim"
        if isinstance(choice, str):
            choice = from_mapping(ScheduleChoice, {"name": choice})
        for name in _UNSUPPORTED:
            if config.get(name):
                raise ConfigError(f"{name}=true in the base's scheduler_config.json is not supported; set it to false")
        self.choice, self._base = choice, dict(config)
        self.config = choice.settings(config)
        self.levels = NoiseLevels(alpha_bar(config).numpy(), prediction_type(config), self.config)
        self.plan = lru_cache(maxsize=64)(self._plan)
        self.of = lru_cache(maxsize=64)(self._of)

    def _of(self, choice: ScheduleChoice | str | None) -> "Schedule":
        """The same base's schedule of a request; None: this one.

        Raises:
            RequestError: there is none of that name, or it needs settings.
        """
        if choice is None or choice == self.choice:
            return self
        if not isinstance(choice, ScheduleChoice | str):
            raise RequestError(f"schedule={choice!r} is no schedule; give a name, such as 'dpmpp_2m'")
        try:
            return Schedule(choice, self._base)
        except ConfigError as error:
            raise RequestError(str(error)) from None

    def _plan(self, steps: int, eta: float = 0.0) -> Plan:
        """The plan for `steps` steps; `eta` is DDIM's added noise (0 none, 1 DDPM), or TCD's gamma.

        Raises:
            RequestError: more steps than the base was trained with, or eta with a schedule that takes none.
        """
        if not 1 <= steps <= len(self.levels.alpha_bar):
            raise RequestError(f"steps={steps} is out of range; use 1 to {len(self.levels.alpha_bar)}")
        if not 0 <= eta <= 1:
            raise RequestError(f"eta={eta} is out of range; use 0 to 1")
        if eta > 0 and not self.choice.takes_eta:
            raise RequestError(f"eta={eta} needs schedule=ddim or tcd; {self.choice.name} takes none: set eta=0")
        return self.choice.plan(self.levels, steps, eta)

    def custom(
        self, timesteps: Sequence[float] | None, sigmas: Sequence[float] | None = None, eta: float = 0.0
    ) -> Plan:
        """The plan for steps of the caller's own.

        Args:
            timesteps: [S], descending.
            sigmas: instead of them, [S + 1] noise levels as in Karras et al. 2022, descending; the last one remains.
            eta: as in `plan`.

        Raises:
            RequestError: the schedule takes none, or they are out of its range.
        """
        name = "timesteps" if sigmas is None else "sigmas"
        if not getattr(self.choice, f"takes_{name}"):
            raise RequestError(f"{name} cannot be given with schedule={self.choice.name}; use euler, or steps alone")
        self.plan(1, eta)  # raises where eta is not taken
        total = len(self.levels.alpha_bar)
        if sigmas is None:
            given, levels = np.asarray(timesteps, dtype=np.float64), None
            if given.max() >= total:
                raise RequestError(f"timesteps start at {given.max():g}; this base knows 0 to {total - 1}")
        else:
            levels = np.asarray(sigmas, dtype=np.float64)
            given = timestep_of(levels[:-1], trained_sigmas(self.levels))
        return self.choice.plan(replace(self.levels, given=given, given_sigmas=levels), len(given), eta)


def advance(
    latents: Tensor, output: Tensor, table: Tensor, noise: Tensor | None = None, past: Sequence[Tensor] = ()
) -> Tensor:
    """One step of B rows.

    Args:
        latents: [B, C, h, w].
        output: of the U-Net, likewise.
        table: each row's line of its plan [B, 6 + H].
        noise: likewise [B, C, h, w]; None: no row adds any.
        past: up to H earlier clean estimates, newest first, each [B, C, h, w]; zeros for a row that has none.
    """
    result = _mixed(latents, output, table, KEEP, MOVE)
    for k, estimate in enumerate(past):
        result = result + table[:, PAST + k].view(-1, 1, 1, 1) * estimate
    return result if noise is None else result + table[:, NOISE].view(-1, 1, 1, 1) * noise


def clean_estimate(latents: Tensor, output: Tensor, table: Tensor) -> Tensor:
    """What the picture would be if the U-Net were right at once (x0), from the same arguments as `advance`."""
    return _mixed(latents, output, table, CLEAN_KEEP, CLEAN_MOVE)


def _mixed(latents: Tensor, output: Tensor, table: Tensor, keep: int, move: int) -> Tensor:
    return table[:, keep].view(-1, 1, 1, 1) * latents + table[:, move].view(-1, 1, 1, 1) * output
