"""From latents to pictures."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pm.model.base import BaseModel, decode_latents
from pm.sample.preview import preview_image, preview_map


class Decoding:
    """What a pipeline does with finished latents, and with those on their way."""

    base: BaseModel
    _preview: Any

    def decode(self, latents: Tensor) -> Image.Image:
        """Latents [C, h, w] of one finished row to a picture. One at a time: it bounds memory at 1024 px."""
        return self.decode_all([latents])[0]

    @torch.no_grad()
    def decode_all(self, latents: Sequence[Tensor]) -> list[Image.Image]:
        """Latents of finished rows of one size, each [C, h, w], to pictures, in one call of the VAE."""
        pixels = decode_latents(self.base, torch.stack(list(latents)))
        bytes_ = (pixels * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        return [Image.fromarray(each) for each in bytes_.astype(np.uint8)]

    def preview(self, latents: Tensor, side: int | None = None) -> Image.Image:
        """A rough picture of latents [C, h, w] without the VAE: w x h pixels, or its longer side `side`."""
        if self._preview is None:
            self._preview = preview_map(self.base)
        return preview_image(latents, self._preview, side)
