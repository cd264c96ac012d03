"""Settings of sampling (`conf/sampler/*.yaml`)."""

from dataclasses import dataclass
from typing import Literal

from pm.errors import ConfigError


@dataclass(frozen=True)
class SamplerConfig:
    """How images are drawn, unless a request says otherwise."""

    schedule: Literal["ddim", "euler"]
    steps: int
    guidance: float  # classifier-free guidance; 1: off
    merge_fraction: float  # share of the steps that see the text only (delayed subject conditioning)
    eta: float  # noise added by DDIM: 0 none, 1 as much as DDPM
    negative_prompt: str
    batch_size: int  # rows sampled together

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ConfigError(f"sampler.steps={self.steps} must be at least 1")
        if self.batch_size < 1:
            raise ConfigError(f"sampler.batch_size={self.batch_size} must be at least 1")
        if self.guidance < 0:
            raise ConfigError(f"sampler.guidance={self.guidance} must be 0 or more; 1 switches it off")
        if not 0 <= self.merge_fraction <= 1:
            raise ConfigError(f"sampler.merge_fraction={self.merge_fraction} is a share of the steps; use 0 to 1")
        if not 0 <= self.eta <= 1:
            raise ConfigError(f"sampler.eta={self.eta} must be between 0 and 1")

    @property
    def merge_step(self) -> int:
        """First step that sees the identity."""
        return round(self.merge_fraction * self.steps)
