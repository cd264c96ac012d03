"""What the device gives at most: copying, and products of matrices in each precision."""

from typing import Any

import torch

from benchmarks.gpu.rig import GIB, Rig, Row


def rows(rig: Rig) -> dict[str, Row]:
    kinds = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    found: dict[str, Row] = {"copy": lambda: _copy(rig)}
    found |= {f"matmul {name}": lambda dtype=dtype: _matmul(rig, dtype) for name, dtype in kinds.items()}
    if rig.cuda:
        found["matmul tf32"] = lambda: _tf32(rig)
    return found | {"attention bf16": lambda: _attention(rig)}


def _copy(rig: Rig) -> dict[str, Any]:
    size = (4 if rig.cuda else 1 / 16) * GIB
    source = torch.empty(int(size), dtype=torch.uint8, device=rig.device)
    target = torch.empty_like(source)
    seconds = rig.seconds(lambda: target.copy_(source))
    return {"gb_per_s": 2 * size / seconds / 1e9}


def _matmul(rig: Rig, dtype: torch.dtype) -> dict[str, Any]:
    n, times = (8192, 10) if rig.cuda else (256, 1)
    a, b = (torch.randn(n, n, device=rig.device).to(dtype) for _ in range(2))

    def go() -> None:
        for _ in range(times):
            a @ b

    return {"tflop_per_s": times * 2 * n**3 / rig.seconds(go) / 1e12, "side": n}


def _tf32(rig: Rig) -> dict[str, Any]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        return _matmul(rig, torch.float32)
    finally:
        torch.set_float32_matmul_precision(before)


def _attention(rig: Rig) -> dict[str, Any]:
    """The largest attention of a guided 1024 px step: 2 rows, 10 heads, 4,096 places of 64."""
    rows, heads, places = (2, 10, 4096) if rig.cuda else (1, 2, 64)
    q, k, v = (torch.randn(rows, heads, places, 64, device=rig.device, dtype=torch.bfloat16) for _ in range(3))
    seconds = rig.seconds(lambda: torch.nn.functional.scaled_dot_product_attention(q, k, v))
    return {"tflop_per_s": 4 * rows * heads * places**2 * 64 / seconds / 1e12}
