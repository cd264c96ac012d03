"""A CLIP vision tower as a recogniser, for photographs."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pm.errors import CheckpointError

_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)


class Tower(nn.Module):
    """Pixels [B, 3, H, W] in 0..1 → unit vectors [B, E]."""

    mean: Tensor
    std: Tensor

    def __init__(self, folder: Path) -> None:
        """Raises `CheckpointError` where the folder is no `CLIPVisionModelWithProjection`."""
        super().__init__()
        from transformers import CLIPVisionModelWithProjection

        try:
            tower = CLIPVisionModelWithProjection.from_pretrained(folder, local_files_only=True, use_safetensors=True)
        except (OSError, ValueError, RuntimeError) as error:
            raise CheckpointError(
                f"recogniser {folder.absolute()} is no CLIP vision tower ({type(error).__name__}); give its folder, or "
                "a file of python -m pm.toon.pretrain.recogniser"
            ) from error
        self.tower = tower.float().eval().requires_grad_(False)
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        side = self.tower.config.image_size
        small = F.interpolate(pixels, (side, side), mode="bicubic", antialias=True)
        return F.normalize(self.tower(pixel_values=(small - self.mean) / self.std).image_embeds, dim=-1)
