"""The diffusion loss of the paper: predict what was added (section 3.3)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from pm.train.objectives.base import ObjectiveChoice

if TYPE_CHECKING:
    from torch import nn

    from pm.data.loading.share import Draw
    from pm.train.diffusion import NoiseSchedule
    from pm.train.losses.choice import LossWeights
    from pm.train.step import Precision


@dataclass(frozen=True)
class Diffusion(ObjectiveChoice):
    """`pm.train.step.TrainStep`."""

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

        return TrainStep(model, schedule, scaling_factor, precision, loss_weights)
