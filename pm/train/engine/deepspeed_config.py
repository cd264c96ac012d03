"""The DeepSpeed config of a run, derived from the settings of training."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pm.train.config import TrainConfig

if TYPE_CHECKING:
    import torch

# Elements. Buffers of this size are allocated up front, so DeepSpeed's default of 5e8 (2 GB each) is only a ceiling.
LARGEST_BUCKET = 50_000_000
# Elements. DeepSpeed keeps smaller weights whole ("persistent"): gathering them costs more than it saves.
PERSISTENT = 100_000


def deepspeed_config(
    stage: int,
    over: Mapping[str, Any],
    train: TrainConfig,
    workers: int,
    trainable: int,
    device: "torch.device",
) -> dict[str, Any]:
    """The DeepSpeed config of a run; `over` is merged over it, section by section.

    Args:
        workers: world size.
        trainable: number of trainable elements, for the bucket sizes.
    """
    bucket = max(1, min(trainable, LARGEST_BUCKET))
    zero: dict[str, Any] = {
        "stage": stage,
        "reduce_bucket_size": bucket,
        "allgather_bucket_size": bucket,
        "contiguous_gradients": True,
        "overlap_comm": device.type == "cuda",
    }
    if stage == 3:
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
    return _merged(derived, over)


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = _merged(result[key], value) if both else value
    return result
