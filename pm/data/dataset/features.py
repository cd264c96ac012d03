"""Numbers on disk: features as bytes of the dataset's storage type."""

from collections.abc import Sequence

import torch
from torch import Tensor


def to_bytes(values: Tensor, storage: str) -> bytes:
    """Floats as bytes of `storage` (float16 | bfloat16); what float16 cannot hold becomes its largest number."""
    values = values.detach().float().cpu()
    if storage == "float16":
        limit = torch.finfo(torch.float16).max
        values = values.clamp(-limit, limit)
    # NumPy has no bfloat16; as 16-bit integers the bytes are the same.
    return values.to(getattr(torch, storage)).contiguous().view(torch.int16).numpy().tobytes()


def from_bytes(data: bytes, storage: str, shape: Sequence[int]) -> Tensor:
    """The inverse of `to_bytes`, float32 of `shape`; empty bytes give an empty array (a base without pooled text)."""
    if not data:
        return torch.empty(tuple(max(0, side) for side in shape))
    return torch.frombuffer(bytearray(data), dtype=getattr(torch, storage)).float().view(tuple(shape))
