"""The diffusion loss of the paper: predict what was added (section 3.3), and terms of other papers beside it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from pm.errors import ConfigError
from pm.train.objectives.base import ObjectiveChoice
from pm.train.terms.base import TermChoice, active

if TYPE_CHECKING:
    from torch import nn

    from pm.data.loading.share import Draw
    from pm.model.kinds.base import AdapterChoice
    from pm.train.diffusion import NoiseSchedule
    from pm.train.losses.choice import LossWeights
    from pm.train.step import Precision


@dataclass(frozen=True)
class Diffusion(ObjectiveChoice):
    """`pm.train.step.TrainStep`."""

    # Beside the loss of the paper, each with its weight; a default, as runs of earlier versions do not name them.
    terms: tuple[TermChoice, ...] = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        names = [term.name for term in self.terms]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ConfigError(f"train.objective.terms names {twice} twice; give it once, with its weight")

    def check(self, adapter: AdapterChoice, loss_weights: LossWeights) -> None:
        for term in active(self.terms):
            term.check(adapter)

    def parts(self) -> tuple[str, ...]:
        return tuple(part for term in active(self.terms) for part in term.parts())

    def drawing(self, schedule: NoiseSchedule) -> Draw | None:
        from pm.train.diffusion import draw

        return partial(draw, steps=len(schedule))

    def build(
        self,
        model: nn.Module,
        schedule: NoiseSchedule,
        scaling_factor: float,
        precision: Precision,
        loss_weights: LossWeights,
    ) -> nn.Module:
        from pm.train.step import TrainStep

        terms = [(t.weight, t.build(model, schedule, scaling_factor)) for t in active(self.terms)]
        return TrainStep(model, schedule, scaling_factor, precision, loss_weights, terms)
