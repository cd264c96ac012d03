"""Cheap previews: a linear map from latents to small RGB pictures, for any VAE."""

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from pm.model.base import BaseModel, decode_latents

_PATCHES, _SIDE = 6, 8  # pictures to fit on, and their side in latents


@torch.no_grad()
def preview_map(base: BaseModel) -> Tensor:
    """[C + 1, 3] float32: weights of each latent channel and a constant, in RGB 0..1.

    Least squares between smooth random latents and what the VAE makes of them, averaged over each latent's pixels. No
    picture is needed, and it takes one call of the decoder.
    """
    generator, channels = torch.Generator().manual_seed(0), base.latent_channels
    coarse = torch.randn(_PATCHES, channels, 3, 3, generator=generator)
    latents = F.interpolate(coarse, (_SIDE, _SIDE), mode="bilinear", align_corners=True)
    pixels = decode_latents(base, latents.to(base.vae.device)).cpu()
    colours = F.avg_pool2d(pixels, base.vae_scale_factor).permute(0, 2, 3, 1).reshape(-1, 3)
    points = latents.permute(0, 2, 3, 1).reshape(-1, channels)
    return torch.linalg.lstsq(torch.cat([points, torch.ones(len(points), 1)], dim=1), colours).solution


def preview_image(latents: Tensor, mapping: Tensor, side: int | None = None) -> Image.Image:
    """Latents [C, h, w] as a picture of w x h pixels, or enlarged so that its longer side has `side` pixels."""
    points = latents.detach().float().cpu().permute(1, 2, 0)
    values = (points @ mapping[:-1] + mapping[-1]).clamp(0, 1)
    picture = Image.fromarray((values * 255).round().byte().numpy().astype(np.uint8))
    if side is None:
        return picture
    scale = side / max(picture.size)
    width, height = (max(1, round(v * scale)) for v in picture.size)
    return picture.resize((width, height), Image.Resampling.BICUBIC)
