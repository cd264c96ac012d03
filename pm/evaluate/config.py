"""Settings of an evaluation (`conf/evaluate.yaml`)."""

import dataclasses
from typing import Annotated, Literal

from annotated_types import Ge, MinLen

from pm.evaluate.metrics.base import MetricChoice
from pm.model.config import BaseConfig
from pm.sample.config import SamplerConfig
from pm.track.base import TrackerChoice


@dataclasses.dataclass(frozen=True)
class ProtocolConfig:
    """IDs × prompts × images, the shape of the paper's evaluation (section 4.1: 25 × 40 × 4)."""

    identities: Annotated[int, Ge(1)]
    prompts: Annotated[int, Ge(1)]  # per identity
    images: Annotated[int, Ge(1)]  # per prompt
    references: Annotated[tuple[int, ...], MinLen(1), Ge(1)]  # numbers of ID images; one row each per adapter
    seed: int
    size: Annotated[int, Ge(1)]  # px of the drawn reference photos


@dataclasses.dataclass(frozen=True)
class EvaluateConfig:
    """One evaluation run."""

    adapters: tuple[str, ...]  # adapter files, or folders that are searched for adapter.safetensors
    modules: tuple[str, ...]  # with parts of your own that an adapter names
    base: BaseConfig
    probe: str
    protocol: ProtocolConfig
    metrics: Annotated[tuple[MetricChoice, ...], MinLen(1)]  # a column each, in this order
    sampler: SamplerConfig
    output: str
    device: str
    dtype: Literal["auto", "float32", "bfloat16", "float16"]
    grid_identities: Annotated[int, Ge(1)]  # rows of the picture
    tracker: TrackerChoice
