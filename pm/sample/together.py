"""What rows of different plans need to take one step in one call."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def padded_lines(lines: Sequence[Tensor]) -> Tensor:
    """Lines of plans [6 + H_i] with different histories in one table [B, 6 + H]; the others' columns are zero."""
    width = max(line.shape[0] for line in lines)
    return torch.stack([F.pad(line, (0, width - line.shape[0])) for line in lines])


def past_of(rows: Sequence[Sequence[Tensor]], like: Tensor) -> list[Tensor]:
    """Earlier estimates [C, h, w] of B rows, newest first, each `like` [B, C, h, w]; zeros where a row has none."""
    nothing = torch.zeros_like(like[0])
    most = max(map(len, rows))
    return [torch.stack([past[k] if k < len(past) else nothing for past in rows]) for k in range(most)]


def fresh_noise(generators: Sequence[torch.Generator], wanted: Tensor, like: Tensor) -> Tensor:
    """Noise `like` [B, C, h, w] for the rows that want it, each from its own generator; zeros for the others."""
    parts = [
        torch.randn(like.shape[1:], generator=generator, device=generator.device).to(like)
        if want
        else torch.zeros_like(like[0])
        for generator, want in zip(generators, wanted.tolist(), strict=True)
    ]
    return torch.stack(parts)
