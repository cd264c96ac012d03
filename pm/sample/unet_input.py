"""What the U-Net sees of the pictures of rows, beside their noise."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from pm.model.conditioning import Conditioning
from pm.model.lines import lines
from pm.sample.controls import RowControl, residuals_of
from pm.sample.start import Start


def with_pictures(
    starts: Sequence[Start],
    acting: Sequence[Sequence[RowControl]],
    pick: Sequence[int],
    noisy: Tensor,
    timesteps: Tensor,
    conditioning: Conditioning,
) -> tuple[Tensor, Conditioning]:
    """The U-Net's input [B, C or 2 C + 1, h, w], and its conditioning with what the controls add.

    Args:
        starts: of each row; those for an inpainting U-Net all have what that sees.
        acting: of each row, the controls that act in this step.
        pick: which row each of the B lines is of.
        noisy: [B, C, h, w].
        timesteps: [B].
        conditioning: of B lines.
    """
    conditioning = replace(conditioning, residuals=residuals_of(acting, pick, noisy, timesteps, conditioning))
    seen = [start.seen for start in starts if start.seen is not None]
    return (torch.cat([noisy, lines(torch.stack(seen), pick).to(noisy)], dim=1) if seen else noisy), conditioning
