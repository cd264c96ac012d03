"""From a vision tower's output to the tokens of an image prompt (IP-Adapter, Ye et al. 2023, section 3.2.1).

Parameter names are those of the published files, so that these load strictly.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pm.errors import CheckpointError

_HEAD = 64  # width of an attention head in the published resamplers


class LinearProjection(nn.Module):
    """The image embedding [M, E] to K tokens [M, K, D]: one linear layer and a LayerNorm."""

    reads_hidden = False  # the projected, pooled output of the tower

    def __init__(self, seen: int, width: int, tokens: int) -> None:
        """`seen`: E. `width`: D. `tokens`: K."""
        super().__init__()
        self.proj = nn.Linear(seen, tokens * width)
        self.norm = nn.LayerNorm(width)

    @property
    def seen(self) -> int:
        return self.proj.in_features

    def forward(self, image: Tensor) -> Tensor:
        return self.norm(self.proj(image).unflatten(-1, (-1, self.norm.normalized_shape[0])))


class _Perceive(nn.Module):
    """Latents attend to the picture and to each other (Perceiver, as in Flamingo's resampler)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        inner = heads * _HEAD
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.to_q = nn.Linear(width, inner, bias=False)
        self.to_kv = nn.Linear(width, 2 * inner, bias=False)
        self.to_out = nn.Linear(inner, width, bias=False)

    def forward(self, image: Tensor, latents: Tensor) -> Tensor:
        latents = self.norm2(latents)
        seen = torch.cat([self.norm1(image), latents], dim=1)
        q, k, v = (
            x.unflatten(-1, (-1, _HEAD)).transpose(1, 2)
            for x in (self.to_q(latents), *self.to_kv(seen).chunk(2, dim=-1))
        )
        return self.to_out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Resampler(nn.Module):
    """The tower's last but one hidden states [M, T, H] to K tokens [M, K, D], of the variants called "plus"."""

    reads_hidden = True

    def __init__(self, seen: int, width: int, tokens: int, inner: int, depth: int) -> None:
        """`seen`: H. `width`: D. `tokens`: K. `inner`: width inside; `depth`: blocks."""
        super().__init__()
        self.latents = nn.Parameter(torch.randn(1, tokens, inner) / inner**0.5)
        self.proj_in, self.proj_out = nn.Linear(seen, inner), nn.Linear(inner, width)
        self.norm_out = nn.LayerNorm(width)
        heads = max(1, inner // _HEAD)
        self.layers = nn.ModuleList(
            nn.ModuleList([_Perceive(inner, heads), _feed_forward(inner)]) for _ in range(depth)
        )

    @property
    def seen(self) -> int:
        return self.proj_in.in_features

    def forward(self, image: Tensor) -> Tensor:
        image = self.proj_in(image)
        latents = self.latents.expand(image.shape[0], -1, -1)
        blocks: Any = self.layers
        for attention, feed_forward in blocks:
            latents = attention(image, latents) + latents
            latents = feed_forward(latents) + latents
        return self.norm_out(self.proj_out(latents))


Projection = LinearProjection | Resampler


def projection_like(state: Mapping[str, Tensor], name: str) -> Projection:
    """An empty projection of the shape that a file's `image_proj.*` has, without that prefix.

    Raises:
        CheckpointError: a variant that is not supported.
    """
    if "proj.weight" in state and "norm.weight" in state:
        width = state["norm.weight"].shape[0]
        return LinearProjection(state["proj.weight"].shape[1], width, state["proj.weight"].shape[0] // width)
    if "latents" in state and "proj_in.weight" in state and "proj_out.weight" in state:
        (inner, seen), depth = state["proj_in.weight"].shape, len({k.split(".")[1] for k in state if "layers." in k})
        return Resampler(seen, state["proj_out.weight"].shape[0], state["latents"].shape[1], inner, depth)
    raise CheckpointError(
        f"{name} is an IP-Adapter of a variant that is not supported; take one with a linear projection (ip-adapter_*) "
        "or a resampler (ip-adapter-plus*), such as ip-adapter-plus-face_sdxl_vit-h"
    )


def _feed_forward(width: int) -> nn.Sequential:
    up, down = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)
    return nn.Sequential(nn.LayerNorm(width), up, nn.GELU(), down)
