"""What the U-Net is told: one type for training, sampling and serving.

Shapes: B rows, L text tokens, T >= L tokens after merging, D text width, P pooled width, Q time ids. P and Q are 0 for
families of bases without them: empty tensors are stacked, selected and masked like all others.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pm.model.image_prompt import ImagePrompt
from pm.model.regions import Regions
from pm.model.residuals import Residuals

_TENSORS = ("embeds", "mask", "pooled", "time_ids", "text_embeds", "text_pooled")  # of `Conditioning`, in order


@dataclass(frozen=True)
class TextFeatures:
    """What a base's frozen text encoders say about a prompt; how, its family knows."""

    embeds: Tensor  # [B, L, D]
    pooled: Tensor  # [B, P] summary of the prompt; P = 0 for families without

    def to(self, *args: Any, **kwargs: Any) -> "TextFeatures":
        """Move or cast both tensors, like `Tensor.to`."""
        return TextFeatures(self.embeds.to(*args, **kwargs), self.pooled.to(*args, **kwargs))

    def rows(self, index: Any) -> "TextFeatures":
        """Select rows by a slice, a list of integers or an index tensor; the batch axis stays."""
        return TextFeatures(self.embeds[index], self.pooled[index])


@dataclass(frozen=True)
class Conditioning:
    """Merged text + identity of B rows, padded to their longest, with the text-only twin beside it.

    `text_embeds`/`text_pooled` are what delayed subject conditioning (paper section 4.1) shows the U-Net before the
    merge step. With `merge=insert` `text_pooled` equals `pooled`; with `merge=repeat` the pooled vector of the
    repeated class token differs from that of the plain prompt.
    """

    embeds: Tensor  # [B, T, D]
    mask: Tensor  # [B, T] bool, True = attend; the tokenizer's own padding is attended to as well
    pooled: Tensor  # [B, P]
    time_ids: Tensor  # [B, Q] float32; SDXL: original h, w, crop top, left, target h, w in pixels
    text_embeds: Tensor  # [B, L, D]
    text_pooled: Tensor  # [B, P]
    image: ImagePrompt | None = None  # attended to beside the text; None: no row has an image prompt
    regions: Regions | None = None  # where each of several people may act; None: in no row
    unpadded: bool = False  # known to attend to all T tokens in every row, so that attention needs no mask
    residuals: Residuals | None = None  # of one step alone, so neither selected nor stacked; None: no row has control

    def __len__(self) -> int:
        return self.embeds.shape[0]

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "Conditioning":
        """Move to `device`; cast the floating tensors to `dtype`. Time ids stay float32: bfloat16 cannot hold 1025."""
        cast = {
            name: getattr(self, name).to(device, dtype) for name in ("embeds", "pooled", "text_embeds", "text_pooled")
        }
        image = None if self.image is None else self.image.to(device, dtype)
        regions = None if self.regions is None else self.regions.to(device)
        cast |= {"mask": self.mask.to(device), "time_ids": self.time_ids.to(device)}
        return replace(self, image=image, regions=regions, **cast)

    def rows(self, index: Any) -> "Conditioning":
        """Select rows by a slice, a list of integers or an index tensor; the batch axis and the padding stay."""
        image = None if self.image is None else self.image.rows(index)
        regions = None if self.regions is None else self.regions.rows(index)
        selected = {name: getattr(self, name)[index] for name in _TENSORS}
        return Conditioning(**selected, image=image, regions=regions, unpadded=self.unpadded, residuals=None)

    def trimmed(self) -> "Conditioning":
        """Drop the columns that no row attends to. Padding is always at the end, so this is a slice."""
        length = int(self.mask.any(0).sum())
        image = None if self.image is None else self.image.trimmed()
        regions = None if self.regions is None else self.regions.cut(length)
        embeds, mask = self.embeds[:, :length], self.mask[:, :length]
        known = bool(mask.all())
        return replace(self, embeds=embeds, mask=mask, image=image, regions=regions, unpadded=known)

    def with_image(self, image: ImagePrompt | None) -> "Conditioning":
        """The same with an image prompt of as many rows."""
        return replace(self, image=image)

    @staticmethod
    def concat(items: "Sequence[Conditioning]") -> "Conditioning":
        """Stack along the batch axis; shorter ones are padded with zeros that the mask hides."""
        length = max(item.embeds.shape[1] for item in items)
        plain = max(item.text_embeds.shape[1] for item in items)
        padded = [item.padded(length)._plain_padded(plain) for item in items]
        image = ImagePrompt.concat([item.image for item in items], [len(item) for item in items])
        stacked = {name: torch.cat([getattr(item, name) for item in padded]) for name in _TENSORS}
        regions = Regions.concat([item.regions for item in items], [len(item) for item in items], length, plain)
        unpadded = all(item.unpadded for item in padded)
        return Conditioning(**stacked, image=image, regions=regions, unpadded=unpadded, residuals=None)

    def padded(self, length: int) -> "Conditioning":
        """Pad T to `length` with masked zeros."""
        extra = length - self.embeds.shape[1]
        if extra == 0:
            return self
        regions = None if self.regions is None else self.regions.padded(length)
        embeds, mask = F.pad(self.embeds, (0, 0, 0, extra)), F.pad(self.mask, (0, extra), value=False)
        return replace(self, embeds=embeds, mask=mask, regions=regions, unpadded=False)

    def _plain_padded(self, length: int) -> "Conditioning":
        # Stacked only to be of one shape: who shows the twin to a U-Net takes it from the row itself.
        extra = length - self.text_embeds.shape[1]
        return self if extra == 0 else replace(self, text_embeds=F.pad(self.text_embeds, (0, 0, 0, extra)))

    @staticmethod
    def from_text(text: TextFeatures, time_ids: Tensor) -> "Conditioning":
        """Plain text conditioning, without any identity. `time_ids` [B, Q]."""
        mask = torch.ones(text.embeds.shape[:2], dtype=torch.bool, device=text.embeds.device)
        return Conditioning(text.embeds, mask, text.pooled, time_ids, text.embeds, text.pooled, unpadded=True)
