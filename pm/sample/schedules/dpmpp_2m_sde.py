"""DPM-Solver++ 2M for the diffusion SDE: as `dpmpp_2m`, with fresh noise at each step."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from pm.sample.schedules.dpmpp_2m import DpmPp2M


@dataclass(frozen=True)
class DpmPp2MSde(DpmPp2M):
    """SDE-DPM-Solver++ (Lu et al. 2022, appendix)."""

    algorithms: ClassVar[tuple[str, ...]] = ("sde-dpmsolver++",)
    stochastic: ClassVar[bool] = True

    @classmethod
    def fits(cls, config: Mapping[str, Any]) -> bool:
        return config.get("algorithm_type") in cls.algorithms
