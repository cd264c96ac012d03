"""From a vision tower's output to the tokens of an image prompt (IP-Adapter, Ye et al. 2023, section 3.2.1).

Parameter names are those of the published files, so that these load strictly.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pm.errors import CheckpointError
from pm.model.perceiver import blocks, read_picture

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
        self.layers = blocks(inner, heads, _HEAD, depth)

    @property
    def seen(self) -> int:
        return self.proj_in.in_features

    def forward(self, image: Tensor) -> Tensor:
        image = self.proj_in(image)
        latents = self.latents.expand(image.shape[0], -1, -1)
        return self.norm_out(self.proj_out(read_picture(self.layers, image, latents)))


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
