"""Blocks in which a few latent tokens read many image tokens (Perceiver, as in Flamingo's resampler).

Parameter names are those of the published resamplers of IP-Adapter and of PhotoMaker V2, which share them.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Perceive(nn.Module):
    """Latents attend to the picture and to each other."""

    def __init__(self, width: int, heads: int, head: int) -> None:
        """`width`: of the latents and of the picture. `head`: width of one of the `heads`."""
        super().__init__()
        inner = heads * head
        self.head = head
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.to_q = nn.Linear(width, inner, bias=False)
        self.to_kv = nn.Linear(width, 2 * inner, bias=False)
        self.to_out = nn.Linear(inner, width, bias=False)

    def forward(self, image: Tensor, latents: Tensor) -> Tensor:
        """`image` [M, T, width] and `latents` [M, K, width] to what is added to the latents."""
        latents = self.norm2(latents)
        seen = torch.cat([self.norm1(image), latents], dim=1)
        q, k, v = (
            x.unflatten(-1, (-1, self.head)).transpose(1, 2)
            for x in (self.to_q(latents), *self.to_kv(seen).chunk(2, dim=-1))
        )
        return self.to_out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


def feed_forward(width: int) -> nn.Sequential:
    """LayerNorm, and two layers without biases around a GELU, four times as wide inside."""
    up, down = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)
    return nn.Sequential(nn.LayerNorm(width), up, nn.GELU(), down)


def blocks(width: int, heads: int, head: int, depth: int) -> nn.ModuleList:
    """`depth` pairs of `Perceive` and `feed_forward`."""
    return nn.ModuleList(nn.ModuleList([Perceive(width, heads, head), feed_forward(width)]) for _ in range(depth))


def read_picture(layers: nn.ModuleList, image: Tensor, latents: Tensor) -> Tensor:
    """Send latents [M, K, width] through `blocks` that read `image` [M, T, width]."""
    pairs: Any = layers
    for attention, forward in pairs:
        latents = attention(image, latents) + latents
        latents = forward(latents) + latents
    return latents
