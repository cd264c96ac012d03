"""The masked diffusion loss (paper section 3.3)."""

import torch
from torch import Tensor


def masked_mse(prediction: Tensor, wanted: Tensor, mask: Tensor, use_mask: Tensor) -> Tensor:
    """Squared error of each sample, inside the person mask where `use_mask` says so (paper section 3.3).

    Divided by the mask's area, not the image's, so that masked and unmasked samples weigh the same; a sample whose
    mask is empty counts as unmasked.

    Args:
        prediction: [B, C, h, w].
        wanted: [B, C, h, w].
        mask: [B, 1, h, w] in 0..1.
        use_mask: [B] bool.

    Returns:
        [B] float32.
    """
    error = (prediction.float() - wanted.float()).square()
    area = mask.float().mean(dim=(1, 2, 3), keepdim=True)
    masked = use_mask.view(-1, 1, 1, 1) & (area > 0)
    weight = torch.where(masked, mask.float() / area.clamp_min(torch.finfo(torch.float32).tiny), 1.0)
    return (error * weight).mean(dim=(1, 2, 3))
