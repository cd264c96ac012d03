"""DeepSpeed ZeRO (Rajbhandari et al. 2020): the workers split optimizer states (1), gradients (2) and weights (3)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Interval

from pm.train.config import TrainConfig
from pm.train.engine.choice import EngineChoice

if TYPE_CHECKING:
    import torch
    from torch import nn

    from pm.train.engine.base import Engine

# Elements. Buffers of this size are allocated up front, so DeepSpeed's default of 5e8 (2 GB each) is only a ceiling.
LARGEST_BUCKET = 50_000_000
# Elements. DeepSpeed keeps smaller weights whole ("persistent"): gathering them costs more than it saves.
PERSISTENT = 100_000


@dataclass(frozen=True)
class ZeroChoice(EngineChoice):
    """A ZeRO stage; one worker alone has nothing to split and trains as `ddp`, unless it offloads."""

    stage: Annotated[int, Interval(ge=1, le=3)]
    deepspeed: dict[str, Any]  # merged over the DeepSpeed config that is derived from the other settings

    def plain(self, workers: int) -> bool:
        """Whether so many workers train without DeepSpeed."""
        return workers == 1 and not self.deepspeed

    def build(
        self,
        module: "nn.Module",
        groups: "Mapping[str, list[nn.Parameter]]",
        train: TrainConfig,
        device: "torch.device",
    ) -> "Engine":
        from pm.train.engine.base import make_optimizer, world_size
        from pm.train.engine.ddp import TorchEngine

        module.to(device)
        optimizer = make_optimizer(groups, train, device)
        if self.plain(world_size()):
            return TorchEngine(module, optimizer, train)
        from pm.train.engine.partitioned import ZeroEngine  # DeepSpeed takes seconds to import

        return ZeroEngine(module, optimizer, self, train, device)


def deepspeed_config(
    engine: ZeroChoice, train: TrainConfig, workers: int, trainable: int, device: "torch.device"
) -> dict[str, Any]:
    """The DeepSpeed config of a run; `engine.deepspeed` is merged over it, section by section.

    Args:
        workers: world size.
        trainable: number of trainable elements, for the bucket sizes.
    """
    bucket = max(1, min(trainable, LARGEST_BUCKET))
    zero: dict[str, Any] = {
        "stage": engine.stage,
        "reduce_bucket_size": bucket,
        "allgather_bucket_size": bucket,
        "contiguous_gradients": True,
        "overlap_comm": device.type == "cuda",
    }
    if engine.stage == 3:
        # In the first step DeepSpeed looks as far ahead as the reuse distance, after every module: with its 1e9 that
        # took seconds, even for the smallest U-Net.
        zero |= {"stage3_prefetch_bucket_size": bucket, "stage3_max_reuse_distance": bucket}
        zero |= {"stage3_param_persistence_threshold": PERSISTENT, "memory_efficient_linear": False}
    derived = {
        "train_batch_size": workers * train.micro_batch(workers) * train.accumulation(workers),
        "train_micro_batch_size_per_gpu": train.micro_batch(workers),
        "gradient_accumulation_steps": train.accumulation(workers),
        "gradient_clipping": train.grad_clip or 0.0,
        "zero_optimization": zero,
        "zero_force_ds_cpu_optimizer": False,  # offloading keeps our AdamW
        "steps_per_print": None,
    }
    return _merged(derived, engine.deepspeed)


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = _merged(result[key], value) if both else value
    return result
