"""Latent consistency distillation of a LoRA (Luo et al. 2023, "Latent Consistency Models" and "LCM-LoRA").

The teacher is the frozen base with guidance, one step of DDIM long; the student is the same U-Net with the LoRA, and
its own target too, without gradient, as LCM-LoRA has it: no second U-Net is kept. The guidance is built into the
weights, so it needs no embedding, and sampling needs no unconditional half.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge, Gt

from pm.errors import ConfigError
from pm.model.kinds.lora import LoraChoice
from pm.train.losses.uniform import Uniform
from pm.train.objectives.base import ObjectiveChoice

if TYPE_CHECKING:
    from torch import nn

    from pm.data.loading.share import Draw
    from pm.model.kinds.base import AdapterChoice
    from pm.train.diffusion import NoiseSchedule
    from pm.train.losses.choice import LossWeights
    from pm.train.step import Precision


@dataclass(frozen=True)
class Lcm(ObjectiveChoice):
    """How the teacher draws, and how the two are compared."""

    timesteps: Annotated[int, Ge(2)]  # of the teacher's DDIM: LCMScheduler's `original_inference_steps`
    guidance_min: Annotated[float, Ge(1)]  # of the teacher, drawn evenly for each sample
    guidance_max: Annotated[float, Ge(1)]
    huber: Annotated[float, Gt(0)]  # c of the pseudo-Huber loss sqrt(d^2 + c^2) - c
    timestep_scaling: Annotated[float, Gt(0)]  # of the boundary conditions, as in LCMScheduler

    def __post_init__(self) -> None:
        if self.guidance_max < self.guidance_min:
            raise ConfigError(
                f"train.objective.guidance_max={self.guidance_max} is below "
                f"train.objective.guidance_min={self.guidance_min}; raise it"
            )

    def check(self, adapter: AdapterChoice, loss_weights: LossWeights) -> None:
        if not isinstance(adapter, LoraChoice):
            raise ConfigError(
                f"objective=lcm distils the base into a LoRA, not into model={adapter.name}; set model=lora"
            )
        if not isinstance(loss_weights, Uniform):
            raise ConfigError(f"objective=lcm takes no loss_weights={loss_weights.name}; set loss_weights=uniform")

    def drawing(self, schedule: NoiseSchedule) -> Draw | None:
        from pm.train.consistency import draw

        return partial(draw, settings=self)

    def build(
        self,
        model: nn.Module,
        schedule: NoiseSchedule,
        scaling_factor: float,
        precision: Precision,
        loss_weights: LossWeights,
    ) -> nn.Module:
        from pm.train.consistency import ConsistencyStep

        if self.timesteps > len(schedule):
            raise ConfigError(
                f"train.objective.timesteps={self.timesteps} is more than the base was trained with: {len(schedule)}"
            )
        return ConsistencyStep(model, schedule, scaling_factor, precision, self)
