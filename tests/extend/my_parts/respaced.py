"""`schedule=respaced`: DDIM with a spacing of timesteps other than the base's own."""

from dataclasses import dataclass, replace
from typing import Literal

from pm.sample.schedules.base import NoiseLevels, Plan
from pm.sample.schedules.ddim import Ddim


@dataclass(frozen=True)
class Respaced(Ddim):
    spacing: Literal["leading", "trailing"]

    def plan(self, levels: NoiseLevels, steps: int, eta: float) -> Plan:
        config = {**levels.config, "timestep_spacing": self.spacing}
        return super().plan(replace(levels, config=config), steps, eta)
