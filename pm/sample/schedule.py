"""One schedule for one base: its plans, and the step that all rows take together."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

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
    NoiseLevels,
    Plan,
    ScheduleChoice,
    schedule_like,
)

_UNSUPPORTED = ("clip_sample", "thresholding", "use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas")


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
            choice = schedule_like(str(config.get("_class_name"))) or "ddim"
        if isinstance(choice, str):
            choice = from_mapping(ScheduleChoice, {"name": choice})
        for name in _UNSUPPORTED:
            if config.get(name):
                raise ConfigError(f"{name}=true in the base's scheduler_config.json is not supported; set it to false")
        self.choice, self.config = choice, dict(config)
        self.levels = NoiseLevels(alpha_bar(config).numpy(), prediction_type(config), self.config)
        self.plan = lru_cache(maxsize=64)(self._plan)

    def _plan(self, steps: int, eta: float = 0.0) -> Plan:
        """The plan for `steps` steps; `eta` is DDIM's added noise (0 none, 1 DDPM).

        Raises:
            RequestError: more steps than the base was trained with, or eta with a schedule that adds no noise.
        """
        if not 1 <= steps <= len(self.levels.alpha_bar):
            raise RequestError(f"steps={steps} is out of range; use 1 to {len(self.levels.alpha_bar)}")
        if not 0 <= eta <= 1:
            raise RequestError(f"eta={eta} is out of range; use 0 to 1")
        if eta > 0 and not self.choice.takes_eta:
            raise RequestError(f"eta={eta} needs schedule=ddim; {self.choice.name} adds no noise")
        return self.choice.plan(self.levels, steps, eta)


def advance(latents: Tensor, output: Tensor, table: Tensor, noise: Tensor | None = None) -> Tensor:
    """One step of B rows: latents and U-Net output [B, C, h, w], each row's line of its table [B, 6], noise or None."""
    result = _mixed(latents, output, table, KEEP, MOVE)
    return result if noise is None else result + table[:, NOISE].view(-1, 1, 1, 1) * noise


def clean_estimate(latents: Tensor, output: Tensor, table: Tensor) -> Tensor:
    """What the picture would be if the U-Net were right at once (x0), from the same arguments as `advance`."""
    return _mixed(latents, output, table, CLEAN_KEEP, CLEAN_MOVE)


def _mixed(latents: Tensor, output: Tensor, table: Tensor, keep: int, move: int) -> Tensor:
    return table[:, keep].view(-1, 1, 1, 1) * latents + table[:, move].view(-1, 1, 1, 1) * output
