"""The first calls of a base's models, which compile them and load their kernels."""

from typing import Any

import torch
import torch.nn.functional as F

from pm.model.base import null_text
from pm.model.conditioning import Conditioning, TextFeatures
from pm.sample.fine import told
from pm.sample.request import BASE, Request
from pm.sample.row import Row

_MORE = 2  # tokens that a row has beyond its text, as with three photos


def warm_up(pipeline: Any) -> None:
    """As `PhotoMakerPipeline.warm_up`."""
    base = pipeline.base
    request = Request("", adapter=BASE, steps=1)
    width, height = pipeline.size(request)
    factor = base.vae_scale_factor
    text = null_text(base, 1)
    time_ids = torch.tensor([told(request, base, width, height)[0]], dtype=torch.float32)
    plan = pipeline.schedule.plan(1, 0.0)
    latents = None
    for guidance in (1.0, 2.0):  # one row, and two
        for more in (0, _MORE):
            row = Row(
                conditioning=_conditioning(text, time_ids, more),
                negative=text,
                plan=plan,
                guidance=guidance,
                merge_step=0,
                seed=0,
                shape=(base.latent_channels, height // factor, width // factor),
            )
            sampler = pipeline.sampler()
            sampler.add(row)
            sampler.step()
            for error in sampler.failed().values():
                raise error
            (latents,) = sampler.finished().values()
    pipeline.decode(latents)


def _conditioning(text: TextFeatures, time_ids: torch.Tensor, more: int) -> Conditioning:
    plain = Conditioning.from_text(text, time_ids)
    embeds = F.pad(text.embeds, (0, 0, 0, more))
    mask = F.pad(plain.mask, (0, more), value=True)
    return Conditioning(embeds, mask, text.pooled, time_ids, text.embeds, text.pooled, unpadded=True)
