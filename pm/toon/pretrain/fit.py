"""The one optimisation loop of pre-training: seeded per step, resumable, with a progress bar."""

import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import tqdm

from pm.files import open_atomic, replace_file, write_json

SAVE_SECONDS = 60.0


def fit(
    name: str,
    modules: nn.ModuleDict,
    loss_of: Callable[[int, torch.Generator], dict[str, Tensor]],
    *,
    steps: int,
    lr: float,
    work: Path,
    seed: int,
    ema: float | None = None,
    weight_decay: float = 0.01,
) -> dict[str, float]:
    """Minimise `loss_of(step, generator)["loss"]` with AdamW, warm-up and cosine decay to zero.

    Step k draws all its randomness from a generator seeded with (seed, k), so a resumed run continues exactly. State
    is saved to `work/<name>.pt` at most every minute; with `ema`, the averaged weights end up in `modules`. A finished
    stage leaves its weights in `work/<name>.safetensors`, which are all that a later run needs of it, on another
    machine too. Returns the mean of every loss over the last tenth of the steps.
    """
    if (done := _finished(name, modules, work)) is not None:
        return done
    params = [p for p in modules.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(params, lr=lr, weight_decay=weight_decay, betas=(0.9, 0.99))
    average = {k: v.clone() for k, v in modules.state_dict().items()} if ema else None
    path, start, tail = work / f"{name}.pt", 0, list[dict[str, float]]()
    if path.exists():
        start, average, tail = _restore(path, modules, optimizer)

    def save(step: int) -> None:
        state = {"modules": modules.state_dict(), "optimizer": optimizer.state_dict()}
        with open_atomic(path, "wb") as stream:
            torch.save(state | {"step": step, "average": average, "tail": tail}, stream)

    modules.train()
    saved_at, bar = time.monotonic(), tqdm(range(start, steps), initial=start, total=steps, desc=name, mininterval=5)
    for step in bar:
        optimizer.param_groups[0]["lr"] = lr * _schedule(step, steps)
        losses = loss_of(step, torch.Generator().manual_seed(seed * 1_000_003 + step))
        losses["loss"].backward()
        nn.utils.clip_grad_norm_(params, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if average is not None and ema is not None:
            _blend(average, modules, min(ema, (step + 1) / (step + 10)))
        if step % 10 == 0:
            row = {k: v.item() for k, v in losses.items()}
            bar.set_postfix({k: f"{v:.4f}" for k, v in row.items()}, refresh=False)
            if step >= steps * 0.9:
                tail.append(row)
        if time.monotonic() - saved_at > SAVE_SECONDS:
            save(step + 1)
            saved_at = time.monotonic()
    if average is not None:
        modules.load_state_dict(average)
    modules.eval()
    final = {k: sum(r[k] for r in tail) / len(tail) for k in (tail[0] if tail else ())}
    write_json(work / f"{name}.json", final)
    _finish(name, modules, work)
    return final


def _finished(name: str, modules: nn.Module, work: Path) -> dict[str, float] | None:
    """The losses of a stage that was finished before, its weights in `modules`; None if it was not."""
    weights, losses = work / f"{name}.safetensors", work / f"{name}.json"
    if not (weights.exists() and losses.exists()):
        return None
    modules.load_state_dict(load_file(weights))
    modules.eval()
    return json.loads(losses.read_text())


def _finish(name: str, modules: nn.Module, work: Path) -> None:
    """Keep the weights, and nothing that only going on with the stage would need."""
    with replace_file(work / f"{name}.safetensors") as temporary:
        save_file({k: v.detach().contiguous().clone() for k, v in modules.state_dict().items()}, temporary)
    (work / f"{name}.pt").unlink(missing_ok=True)


def _restore(path: Path, modules: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[int, dict | None, list]:
    """Load what `save` wrote; returns the step, the averaged weights and the last losses."""
    saved = torch.load(path, weights_only=True)
    modules.load_state_dict(saved["modules"])
    optimizer.load_state_dict(saved["optimizer"])
    return saved["step"], saved["average"], saved["tail"]


def _schedule(step: int, steps: int) -> float:
    """Linear warm-up, then a cosine to zero."""
    return min(1.0, (step + 1) / min(200, steps / 10)) * (0.5 + 0.5 * math.cos(math.pi * step / steps))


@torch.no_grad()
def _blend(average: dict[str, Tensor], modules: nn.Module, decay: float) -> None:
    """Move the averaged weights towards the present ones, in place."""
    for key, value in modules.state_dict().items():
        average[key].lerp_(value, 1 - decay) if value.is_floating_point() else average[key].copy_(value)
