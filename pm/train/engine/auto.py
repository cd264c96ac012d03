"""`engine=auto`: the fastest engine that fits: ddp, else ZeRO 2, else ZeRO 3."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Gt, Le

from pm.train.config import TrainConfig
from pm.train.engine.choice import EngineChoice

if TYPE_CHECKING:
    import torch
    from torch import nn

    from pm.train.engine.base import Engine

_GIB = 2**30


@dataclass(frozen=True)
class AutoChoice(EngineChoice):
    """Decided from the memory that weights, gradients, optimizer and activations need (docs/scaling.md)."""

    share: Annotated[float, Gt(0), Le(1)]  # of what is free on the GPU, that the estimate may take

    def settled(self, module: "nn.Module", train: TrainConfig, device: "torch.device") -> tuple[EngineChoice, str]:
        from pm.train.engine.base import world_size

        workers = world_size()
        if device.type != "cuda":
            return engine(0), "engine=auto: ddp, as there is no GPU whose memory counts"
        free = least_free(device)
        needs = {stage: needed(module, train, stage, workers) for stage in ((0,) if workers == 1 else (0, 2, 3))}
        fitting = [stage for stage, size in needs.items() if size <= self.share * free]
        stage = fitting[0] if fitting else max(needs)
        named = "ddp" if stage == 0 else f"zero{stage}"
        said = f"engine=auto: {named}, by estimate {needs[stage] / _GIB:.1f} of {free / _GIB:.1f} GiB that are free"
        if not fitting:
            said += "; it may not fit: lower train.micro_batch_size, or use engine=zero3_offload"
        elif stage:
            said += f" (ddp: {needs[0] / _GIB:.1f})"
        return engine(stage), said

    def build(
        self,
        module: "nn.Module",
        groups: "Mapping[str, list[nn.Parameter]]",
        train: TrainConfig,
        device: "torch.device",
    ) -> "Engine":
        return self.settled(module, train, device)[0].build(module, groups, train, device)


def engine(stage: int) -> EngineChoice:
    """The engine of a ZeRO stage; 0: ddp."""
    if stage == 0:
        from pm.train.engine.ddp import DdpChoice

        return DdpChoice("ddp")
    from pm.train.engine.zero import ZeroChoice

    return ZeroChoice("zero", stage, {})


def least_free(device: "torch.device") -> float:
    """Bytes that are free on the card of the worker that has least. Collective; all workers get the same.

    Loaded parts of the base count as free: they are in the estimate.
    """
    import torch
    import torch.distributed as dist

    from pm.train.engine.base import world_size

    free = torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
    found = torch.tensor([float(free)], dtype=torch.float64, device=device)
    if world_size() > 1:
        dist.all_reduce(found, dist.ReduceOp.MIN)
    return float(found)


def needed(module: Any, train: TrainConfig, stage: int, workers: int) -> float:
    """Bytes on each worker, by estimate.

    Args:
        module: the objective's step around a `TrainedAdapter`.
        train: batch and references.
        stage: of ZeRO; 0: ddp.
        workers: that share it.
    """
    from pm.train.engine.memory import BESIDE, Weights, tower_bytes, unet_bytes, weight_bytes

    model, samples = module.photomaker, train.micro_batch(workers)
    bf16 = model.unet.dtype.itemsize == 2
    kept = unet_bytes(model.unet, model.base.latent_size, samples, bf16)
    tower = getattr(getattr(model, "id_encoder", None), "vision_model", None)
    if tower is not None:
        kept += tower_bytes(tower, samples * train.max_references, bf16)
    if train.ema_decay is not None:  # one more copy of what each worker updates
        kept += 4 * Weights.of(module).trained / (workers if stage else 1)
    return BESIDE + kept + sum(weight_bytes(Weights.of(module), stage, workers).values())
