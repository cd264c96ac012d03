"""The base with the class word alone: what it draws of somebody it knows nothing of (the paper's rows "SDXL")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pm.methods.base import Method, MethodChoice
from pm.methods.pipeline import load_pipeline
from pm.methods.trial import Trial
from pm.sample.pipeline import PhotoMakerPipeline
from pm.sample.request import BASE, Request, request_of

if TYPE_CHECKING:
    import torch

    from pm.model.config import BaseConfig
    from pm.sample.config import SamplerConfig


@dataclass(frozen=True)
class TextOnly(MethodChoice):
    title = "base alone"
    needs_references = False

    def load(self, base: BaseConfig, sampler: SamplerConfig, device: torch.device, dtype: torch.dtype) -> Method:
        return TextOnlyMethod(load_pipeline(base, sampler, device, dtype), sampler)


class TextOnlyMethod(Method):
    """A state holds nothing."""

    def __init__(self, pipeline: PhotoMakerPipeline, sampler: SamplerConfig) -> None:
        self.pipeline, self._sampler = pipeline, sampler
        self.about = {"fingerprint": pipeline.base.fingerprint}

    def requests(self, state: Any, trial: Trial, references: int) -> list[Request]:
        return [request_of(self._sampler, trial.prompt(trial.subject), adapter=BASE, seed=seed) for seed in trial.seeds]
