"""Cross-attention localisation: the person's token shall look at the person (Xiao et al. 2023, section 4.2).

Shapes: B rows, H heads, N = h_i * w_i positions of a layer, T text tokens.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pm.model.image_prompt import ImageAttention, cross_attention_layers

_SMALL = 1e-5  # area that is added, so that a mask that is empty or full divides by something


def balanced_l1(attention: Tensor, mask: Tensor) -> Tensor:
    """Mean attention outside the person minus that inside, of each row.

    Args:
        attention: [B, H, N], what each position gives the person's token, of a square or the mask's shape.
        mask: [B, 1, h, w] in 0..1, 1 on the person.

    Returns:
        [B] float32, mean over heads.
    """
    height, width = mask.shape[-2:]
    share = (attention.shape[-1] / (height * width)) ** 0.5
    size = (round(height * share), round(width * share))
    inside = F.interpolate(mask.float(), size, mode="bilinear", antialias=True).flatten(2)
    outside = 1 - inside
    seen = attention.float()
    off = (seen * outside).sum(-1) / (outside.sum(-1) + _SMALL)
    on = (seen * inside).sum(-1) / (inside.sum(-1) + _SMALL)
    return (off - on).mean(1)


def token_places(class_index: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Where the identity tokens of B rows stand in their merged text, for `AttentionWatch.watching`.

    Args:
        class_index: [B] int64, the class word's token.
        counts: [B] int64, identity tokens of each row.

    Returns:
        places [B, K], of which those beyond a row's own repeat its first; and their shares [B, K] in the row's mean.
    """
    slots = torch.arange(int(counts.max()), device=counts.device)[None]
    inside = slots < counts[:, None]
    places = class_index[:, None] + slots * inside
    return places, inside / counts[:, None]


class AttentionWatch:
    """Sees what the cross-attention of a U-Net's middle blocks gives to one token of each row."""

    def __init__(self, unet: Any, blocks: int) -> None:
        """Watch so many blocks, or all; the outermost are left out on both sides."""
        layers = cross_attention_layers(unet)
        depth = {"down_blocks": 0, "mid_block": 1, "up_blocks": 2}
        found = sorted({_block(name) for name in layers}, key=lambda b: (depth[b.split(".")[0]], b))
        start = max(0, (len(found) - blocks) // 2)
        self.blocks = found[start : start + blocks]
        for number, (name, module) in enumerate(layers.items()):
            if _block(name) in self.blocks:
                module.set_processor(WatchedAttention(number, self))
        self.index: Tensor | None = None
        self.share: Tensor | None = None
        self.open = False
        self._seen: dict[int, Tensor] = {}

    @contextmanager
    def watching(self, index: Tensor, share: Tensor | None = None) -> Iterator[dict[int, Tensor]]:
        """Collect by layer what tokens of each row are given, [B, H, N], in calls of the U-Net inside.

        Args:
            index: [B], one token of each row; or [B, K], several.
            share: [B, K] float, of each of several tokens in their mean; 0 for padding.
        """
        self.index, self.share, self._seen, self.open = index, share, {}, True
        try:
            yield self._seen
        finally:
            self.open = False  # the index stays: activations may be computed once more in the backward pass

    def seen(self) -> dict[int, Tensor]:
        """What was collected last, by layer."""
        return dict(self._seen)

    def see(self, layer: int, probabilities: Tensor) -> None:
        """`probabilities` [B, H, N, T] of one layer. Computes the same when it is not open, and keeps nothing."""
        if self.index is None:
            return
        rows = torch.arange(len(self.index), device=self.index.device)
        if self.share is None:
            seen = probabilities[rows, :, :, self.index]
        else:  # [B, K, H, N] of each token
            each = probabilities[rows[:, None], :, :, self.index]
            seen = (each * self.share.to(each.dtype)[:, :, None, None]).sum(1)
        if self.open:
            self._seen[layer] = seen


class WatchedAttention(ImageAttention):
    """The same attention in plain arithmetic, which knows its probabilities."""

    def __init__(self, layer: int, watch: AttentionWatch) -> None:
        super().__init__(layer)
        self.watch = watch

    def attend(self, attn: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        if not self.watch.open and not torch.is_grad_enabled():
            return super().attend(attn, query, key, value, mask)
        scores = (query @ key.transpose(-1, -2)).float() * attn.scale
        probabilities = (scores if mask is None else scores + mask).softmax(-1)
        self.watch.see(self.layer, probabilities)
        return probabilities.to(value.dtype) @ value


def _block(name: str) -> str:
    """down_blocks.1, mid_block, ..."""
    first, second = name.split(".")[:2]
    return first if first == "mid_block" else f"{first}.{second}"
