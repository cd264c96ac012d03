"""IP-Adapter: the photos as an image prompt beside the text (Ye et al. 2023), by an adapter file, ours or published."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from annotated_types import Ge

from pm.methods.base import Method
from pm.methods.photomaker import PhotoMakerMethod, StackedId
from pm.methods.pipeline import add_adapter, load_pipeline
from pm.methods.trial import Trial
from pm.sample.pipeline import PhotoMakerPipeline
from pm.sample.request import Request

if TYPE_CHECKING:
    import torch

    from pm.model.config import BaseConfig
    from pm.sample.config import SamplerConfig


@dataclass(frozen=True)
class IPAdapterMethod(PhotoMakerMethod):
    scale: Annotated[float, Ge(0)]  # of the image prompt; 0 is the base

    title: ClassVar[str] = "IP-Adapter"
    kind: ClassVar[str | None] = "ip_adapter"

    def label(self) -> str:
        return self.title

    def load(self, base: BaseConfig, sampler: SamplerConfig, device: torch.device, dtype: torch.dtype) -> Method:
        pipeline = load_pipeline(base, sampler, device, dtype)
        return ImagePrompted(pipeline, sampler, self.scale, add_adapter(pipeline, self.adapter))


class ImagePrompted(StackedId):
    """A state holds the photos' tokens, [N, K, D]."""

    def __init__(
        self, pipeline: PhotoMakerPipeline, sampler: SamplerConfig, scale: float, adapter: str | None = None
    ) -> None:
        super().__init__(pipeline, sampler, adapter)
        self.scale = scale
        self.about = {**self.about, "scale": scale}

    def requests(self, state: Any, trial: Trial, references: int) -> list[Request]:
        found: Sequence[Request] = super().requests(state, trial, references)
        return [replace(request, scale=self.scale) for request in found]
