"""The base that all methods of a process share: at SDXL's size it is 7 GB, and a minute to load."""

from __future__ import annotations

import itertools
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

from pm.sample.pipeline import PhotoMakerPipeline
from pm.strengths import strengths

if TYPE_CHECKING:
    import torch

    from pm.model.config import BaseConfig
    from pm.sample.config import SamplerConfig

_numbers = itertools.count(1)
_last: list[tuple[object, weakref.ref[PhotoMakerPipeline]]] = []  # the one that was loaded last, and what was asked for


def load_pipeline(
    base: BaseConfig, sampler: SamplerConfig, device: torch.device, dtype: torch.dtype
) -> PhotoMakerPipeline:
    """The base, ready to sample as the configuration says: the one that is there already while some method holds it.

    What an adapter or a person's LoRA changes is taken back by the pipeline itself before another row is drawn, so
    pictures do not depend on who used it before.

    Raises:
        CheckpointError: something is missing or damaged.
    """
    wanted = (base, sampler.schedule, str(device), dtype)
    for known, found in _last:
        pipeline = found()
        if pipeline is not None and known == wanted:
            pipeline.load_loras(strengths(sampler.loras))
            return pipeline
    pipeline = PhotoMakerPipeline.from_pretrained(
        base.path, None, base.vision_path, device, dtype, schedule=sampler.schedule, family=base.family
    )
    pipeline.load_loras(strengths(sampler.loras))
    _last[:] = [(wanted, weakref.ref(pipeline))]
    return pipeline


def add_adapter(pipeline: PhotoMakerPipeline, adapter: str | Path) -> str:
    """Load an adapter into a pipeline that others share; returns its name there, which no other has.

    Raises:
        CheckpointError: it is missing or damaged, or was trained on another base.
    """
    name = f"method-{next(_numbers)}"
    pipeline.load_photomaker_adapter(adapter, adapter_name=name)
    return name
