"""PhotoMaker: the stacked ID embedding of the photos, by an adapter file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from pm.errors import ConfigError
from pm.methods.base import Method, MethodChoice, load_pipeline
from pm.methods.trial import Trial
from pm.model.adapter import check_adapter
from pm.sample.adapters import find_adapter
from pm.sample.pipeline import PhotoMakerPipeline
from pm.sample.request import Request, request_of

if TYPE_CHECKING:
    import torch

    from pm.model.base import BaseModel
    from pm.model.config import BaseConfig
    from pm.sample.config import SamplerConfig


@dataclass(frozen=True)
class PhotoMakerMethod(MethodChoice):
    adapter: str  # file, folder or Hub id, ours or published

    title = "PhotoMaker"

    def label(self) -> str:
        path = Path(self.adapter)
        return path.parent.name if path.stem == "adapter" else path.stem

    def files(self) -> tuple[str, ...]:
        return (self.adapter,)

    def check(self, base: BaseModel, references: int) -> None:
        file = find_adapter(self.adapter, None, "")
        most = check_adapter(file, base).max_id_images
        if references > most:
            raise ConfigError(
                f"protocol.references={references}, but {file.absolute()} takes at most {most}; leave it out of "
                "protocol.references"
            )

    def load(self, base: BaseConfig, sampler: SamplerConfig, device: torch.device, dtype: torch.dtype) -> Method:
        return _PhotoMaker(load_pipeline(base, sampler, device, dtype, self.adapter), sampler)


class _PhotoMaker(Method):
    def __init__(self, pipeline: PhotoMakerPipeline, sampler: SamplerConfig) -> None:
        self.pipeline, self._sampler = pipeline, sampler
        config = pipeline.photomaker.config if pipeline.photomaker is not None else None
        self.about = {"fingerprint": pipeline.digest_of(None)}
        if config is not None:
            self.about |= {"compose": config.compose.label, "merge": config.merge}

    def requests(self, state: Any, trial: Trial, references: int) -> list[Request]:
        shown = trial.references[:references]
        images = [Image.fromarray(photo.image) for photo in shown]
        masks = [None if p.mask is None else Image.fromarray(p.mask.astype(np.uint8) * 255) for p in shown]
        prompt = trial.prompt(f"{trial.subject} {self.pipeline.trigger_word}")
        return [request_of(self._sampler, prompt, id_images=images, masks=masks, seed=seed) for seed in trial.seeds]
