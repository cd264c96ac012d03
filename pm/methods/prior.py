"""What the base itself draws for a class word, so that a person does not take the whole class along.

Prior preservation (Ruiz et al. 2023, section 3.2). The pictures are made once for a base, a prompt and the sampler's
settings, and shared by all people, workers and runs.
"""

import dataclasses
import hashlib
import json
from pathlib import Path

import torch
from torch import Tensor

from pm.files import replace_file
from pm.sample.config import SamplerConfig
from pm.sample.pipeline import PhotoMakerPipeline
from pm.sample.request import BASE, request_of

_KEY = "latents"


def class_latents(
    pipeline: PhotoMakerPipeline, sampler: SamplerConfig, prompt: str, count: int, folder: Path | None
) -> Tensor:
    """Latents [count, C, h, w] float32 of what the base draws for `prompt`, with the seeds 0, 1, ...

    Args:
        pipeline: whose base draws.
        sampler: how.
        prompt: for example "a man".
        count: of pictures.
        folder: where they are kept; None: nowhere.

    Raises:
        WriteError: the folder cannot be written.
    """
    file = None if folder is None else folder / f"{_name(pipeline, sampler, prompt, count)}.safetensors"
    kept = None if file is None else _read(file)
    if kept is not None:
        return kept
    requests = [request_of(sampler, prompt, seed=seed, adapter=BASE) for seed in range(count)]
    latents = torch.stack(pipeline.latents(requests, batch_size=sampler.batch_size)).float().cpu().contiguous()
    if file is not None:
        from safetensors.torch import save_file

        # Two workers may draw the same at the same time: the last one's file stays, and says the same.
        with replace_file(file, mode=0o644) as temporary:
            save_file({_KEY: latents}, temporary, metadata={"prompt": prompt})
    return latents


def _name(pipeline: PhotoMakerPipeline, sampler: SamplerConfig, prompt: str, count: int) -> str:
    drawn = dataclasses.asdict(sampler) | {"batch_size": None, "merge_fraction": None}
    facts = [pipeline.base.fingerprint, drawn, prompt, count, str(pipeline.base.unet.dtype)]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def _read(file: Path) -> Tensor | None:
    """What is kept there; None if nothing is, or it is damaged: it is made again."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)[_KEY]
    except (SafetensorError, OSError, KeyError):
        return None
