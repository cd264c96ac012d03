"""What rows of different plans need to take one step in one call."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from pm.model.lines import sent


def padded_lines(lines: Sequence[Tensor]) -> Tensor:
    """Lines of plans [6 + H_i] with different histories in one table [B, 6 + H]; the others' columns are zero."""
    width = max(line.shape[0] for line in lines)
    return torch.stack([F.pad(line, (0, width - line.shape[0])) for line in lines])


def past_of(rows: Sequence[Sequence[Tensor]], like: Tensor) -> list[Tensor]:
    """Earlier estimates [C, h, w] of B rows, newest first, each `like` [B, C, h, w]; zeros where a row has none."""
    nothing = torch.zeros_like(like[0])
    most = max(map(len, rows))
    return [torch.stack([past[k] if k < len(past) else nothing for past in rows]) for k in range(most)]


def fresh_noise(generators: Sequence[torch.Generator | None], like: Tensor) -> Tensor:
    """Noise `like` [B, C, h, w] for the rows with a generator, each from its own; zeros for the others."""
    nothing = torch.zeros_like(like[0])
    return torch.stack([nothing if each is None else _drawn(each, like) for each in generators])


def _drawn(generator: torch.Generator, like: Tensor) -> Tensor:
    noise = torch.randn(like.shape[1:], generator=generator, device=generator.device)
    return sent(noise, like.device, like.dtype)
