"""Settings of an evaluation (`conf/evaluate.yaml`)."""

import dataclasses
from typing import Literal

from pm.errors import ConfigError
from pm.model.config import BaseConfig
from pm.sample.config import SamplerConfig
from pm.track.base import TrackerChoice


@dataclasses.dataclass(frozen=True)
class ProtocolConfig:
    """IDs × prompts × images, the shape of the paper's evaluation (section 4.1: 25 × 40 × 4)."""

    identities: int
    prompts: int  # per identity
    images: int  # per prompt
    references: tuple[int, ...]  # numbers of ID images; one row each per adapter
    seed: int
    size: int  # px of the drawn reference photos

    def __post_init__(self) -> None:
        for name in ("identities", "prompts", "images"):
            if getattr(self, name) < 1:
                raise ConfigError(f"protocol.{name}={getattr(self, name)} must be at least 1")
        if not self.references or min(self.references) < 1:
            raise ConfigError(f"protocol.references={list(self.references)} must list numbers of ID images, from 1 up")


@dataclasses.dataclass(frozen=True)
class EvaluateConfig:
    """One evaluation run."""

    adapters: tuple[str, ...]  # adapter files, or folders that are searched for adapter.safetensors
    modules: tuple[str, ...]  # with parts of your own that an adapter names
    base: BaseConfig
    probe: str
    protocol: ProtocolConfig
    sampler: SamplerConfig
    output: str
    device: str
    dtype: Literal["auto", "float32", "bfloat16", "float16"]
    grid_identities: int  # rows of the picture
    tracker: TrackerChoice
