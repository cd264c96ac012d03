"""The kind of parts that say which steps lead from noise to a picture, and the table that every one of them fills.

Every step of every schedule is x' = keep x + move out + noise e + past_1 x0_1 + past_2 x0_2 + ..., where x0_k is the
row's own clean estimate k steps ago. So rows with different schedules, step counts and positions advance in one
vectorised call, a step has no branch, and a row's history is a few tensors that travel with it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from pm.choice import Choice, find_part, part_names
from pm.errors import ConfigError

if TYPE_CHECKING:  # configurations are read by programs that need no torch
    import torch
    from torch import Tensor

INPUT_SCALE, KEEP, MOVE, NOISE, CLEAN_KEEP, CLEAN_MOVE, PAST = range(7)
Spacing = Literal["leading", "linspace", "trailing"]  # of timesteps


@dataclass(frozen=True)
class Plan:
    """The schedule of one row with S steps that looks back at H earlier estimates."""

    timesteps: Tensor  # [S] float32, descending; Euler with linear spacing has fractions
    # [S, 6 + H] float32: input scale; keep, move, noise of a step; keep, move of the clean estimate; and what a step
    # takes of the clean estimates before it, newest first
    table: Tensor
    init_sigma: float  # standard deviation of the first latents
    # [S + 1, 2] float32: signal and noise in the latents before each step, x = signal x0 + noise e; the end is (1, 0).
    levels: Tensor
    # [H, S, 6 + H]: the lines of a row that knows 0, 1, ..., H - 1 earlier estimates, wherever it started.
    young: Tensor | None = None

    @property
    def steps(self) -> int:
        return self.timesteps.shape[0]

    # What the host needs to know of the tensors, read once and not from a device.

    @cached_property
    def times(self) -> list[float]:
        """`timesteps`."""
        return [float(t) for t in self.timesteps.tolist()]

    @cached_property
    def draws(self) -> list[bool]:
        """Whether each step adds noise."""
        tables = [self.table] if self.young is None else [self.table, *self.young]
        return [any(values) for values in zip(*((table[:, NOISE] > 0).tolist() for table in tables), strict=True)]

    @cached_property
    def signal_and_noise(self) -> list[list[float]]:
        """`levels`."""
        return [[float(value) for value in pair] for pair in self.levels.tolist()]

    def to(self, device: torch.device) -> Plan:
        """With the tensors of steps on a device."""
        if self.table.device == device:
            return self
        from pm.model.lines import sent

        young = None if self.young is None else sent(self.young, device)
        return dataclasses.replace(
            self, timesteps=sent(self.timesteps, device), table=sent(self.table, device), young=young
        )

    @property
    def history(self) -> int:
        """H, how many earlier clean estimates a step can use."""
        return self.table.shape[1] - PAST

    def line(self, index: int, known: int) -> Tensor:
        """The table's line [6 + H] of step `index` for a row that knows its last `known` estimates."""
        if self.young is None or known >= self.history:
            return self.table[index]
        return self.young[known, index]

    def first(self, steps: int) -> Plan:
        """The same plan that ends after so many steps, with noise left."""
        young = None if self.young is None else self.young[:, :steps]
        kept = self.timesteps[:steps], self.table[:steps], self.init_sigma, self.levels[: steps + 1]
        return Plan(*kept, young)


@dataclass(frozen=True)
class NoiseLevels:
    """How the base was trained to see noise."""

    alpha_bar: np.ndarray  # [T] float64
    prediction: str  # of `pm.model.noise.PREDICTIONS`
    config: Mapping[str, Any]  # diffusers' scheduler_config.json: spacing, offset, ends
    given: np.ndarray | None = None  # timesteps [S] of the caller, descending, instead of spaced ones
    given_sigmas: np.ndarray | None = None  # noise levels [S + 1] of the caller, whose timesteps are `given`

    def timesteps(self, steps: int, spacing: str, rounded: bool) -> np.ndarray:
        """Descending timesteps, [S] float64 (Table 2 of Lin et al. 2024)."""
        if self.given is not None:
            return self.given
        total, offset = len(self.alpha_bar), int(self.config.get("steps_offset", 0))
        if spacing == "leading":
            return np.arange(steps)[::-1] * float(total // steps) + offset
        if spacing == "linspace":
            values = np.linspace(0, total - 1, steps)[::-1]
            return values.round() if rounded else values
        if spacing == "trailing":
            return np.arange(total, 0, -total / steps).round() - 1
        raise ConfigError(f"timestep_spacing={spacing!r} of the base's scheduler is not leading, linspace or trailing")


# Settings that a schedule may have, and what diffusers calls them; None: as the base has it.
_OVERRIDES = {"spacing": "timestep_spacing", "karras": "use_karras_sigmas"}


@dataclass(frozen=True)
class ScheduleChoice(Choice, group="schedule", package="pm.sample.schedules"):
    """Which steps are taken. Offsets and ends, and spacing unless set, are the base's own (`NoiseLevels.config`)."""

    name: str

    scheduler: ClassVar[str]  # diffusers' class with the same steps
    takes_eta: ClassVar[bool] = False  # whether it takes a share of noise on the way (eta above 0)
    takes_timesteps: ClassVar[bool] = False  # whether `NoiseLevels.given` may be set
    takes_sigmas: ClassVar[bool] = False  # likewise `given_sigmas`

    @classmethod
    def fits(cls, config: Mapping[str, Any]) -> bool:
        """Whether `scheduler` with this config takes these steps: one class of diffusers may be several schedules."""
        return True

    def settings(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The base's scheduler config, with what this schedule says otherwise: for `NoiseLevels` and diffusers."""
        own = {theirs: getattr(self, ours, None) for ours, theirs in _OVERRIDES.items()}
        return {**config, **{name: value for name, value in own.items() if value is not None}}

    def plan(self, levels: NoiseLevels, steps: int, eta: float) -> Plan:
        """The plan for `steps` steps, 1 to T; `eta` in 0..1 is 0 unless the schedule takes it.

        Raises:
            ConfigError: the base's noise process does not go with it.
            RequestError: so many steps do not.
        """
        raise NotImplementedError


def schedule_like(scheduler: str, config: Mapping[str, Any]) -> ScheduleChoice | None:
    """The schedule with the steps of a diffusers class and config; None: there is none."""
    return next((choice for choice in _plain() if choice.scheduler == scheduler and choice.fits(config)), None)


def schedules() -> list[str]:
    """Diffusers' classes that some schedule of ours, or an installed one, has the steps of."""
    return sorted({choice.scheduler for choice in _plain()})


def _plain() -> Iterator[ScheduleChoice]:
    """Schedules that need no settings."""
    for name in part_names(ScheduleChoice):
        kind = find_part(ScheduleChoice, name)
        if all(f.name == "name" or f.default is not dataclasses.MISSING for f in dataclasses.fields(kind)):
            yield kind(name)


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


def make_multistep_plan(
    timesteps: np.ndarray,
    line: Callable[[int, int], Sequence[float]],
    history: int,
    init_sigma: float,
    levels: tuple[np.ndarray, np.ndarray],
) -> Plan:
    """A plan that looks back.

    Args:
        timesteps: [S].
        line: (i, k) -> the 6 + H numbers of step i for a row that knows k <= min(i, H) earlier estimates.
        history: H.
        init_sigma: of `Plan`.
        levels: as in `make_plan`.
    """
    import torch

    known = [np.array([line(i, min(i, k)) for i in range(len(timesteps))]) for k in range(history + 1)]
    plan = make_plan(timesteps, tuple(known[history].T), init_sigma, levels)
    return dataclasses.replace(plan, young=torch.from_numpy(np.stack(known[:history])).float())


def clean_from(prediction: str, signal: np.ndarray, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x0 = a x + b out, from x = signal x0 + noise e with signal^2 + noise^2 = 1: (a, b), each as `signal`."""
    zero = np.zeros_like(signal)
    if prediction == "v_prediction":
        return signal, -noise
    if prediction == "sample":
        return zero, zero + 1
    return 1 / signal, -noise / signal


def noise_from(prediction: str, signal: np.ndarray, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The noise eps = a x + b out of latents x = signal x0 + noise eps: (a, b), each as `signal`."""
    if prediction == "v_prediction":
        return noise, signal
    if prediction == "sample":
        return 1 / noise, -signal / noise
    return np.zeros_like(signal), np.ones_like(signal)
