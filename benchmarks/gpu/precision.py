"""One call of the U-Net in float32 and in bfloat16: how far apart, and how fast."""

from typing import Any

import torch

from benchmarks.fullsize.models import random_batch
from benchmarks.gpu.rig import Rig, Row


def rows(rig: Rig) -> dict[str, Row]:
    return {"U-Net call": lambda: _both(rig)}


def _both(rig: Rig) -> dict[str, Any]:
    from pm.model.base import load_base

    rig.free()
    outputs, found = [], {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        base = load_base(rig.base, ("unet",), device=rig.device, dtype=dtype)
        batch = random_batch(base, 2)
        added = {"text_embeds": batch.pooled, "time_ids": batch.time_ids}
        added = {key: value.to(rig.device, dtype) for key, value in added.items()}
        noisy, text = batch.mean.to(rig.device, dtype), batch.embeds.to(rig.device, dtype)
        times = torch.tensor([900, 100], device=rig.device)

        def call(unet=base.unet, noisy=noisy, text=text, added=added, times=times) -> torch.Tensor:
            with torch.no_grad():
                return unet(noisy, times, text, added_cond_kwargs=added).sample

        found[f"{name}_s"] = rig.seconds(call)
        outputs.append(call().float().cpu())
        del base
        rig.free()
    exact, rounded = outputs
    error = (rounded - exact).norm() / exact.norm()
    return found | {"ratio": found["fp32_s"] / found["bf16_s"], "relative_error": float(error)}
