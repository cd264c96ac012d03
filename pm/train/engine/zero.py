"""DeepSpeed ZeRO (Rajbhandari et al. 2020): the workers split optimizer states (1), gradients (2) and weights (3)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Interval

from pm.train.config import TrainConfig
from pm.train.engine.choice import EngineChoice
from pm.train.engine.deepspeed_config import deepspeed_config

if TYPE_CHECKING:
    import torch
    from torch import nn

    from pm.train.engine.base import Engine


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

        trainable = sum(parameter.numel() for group in groups.values() for parameter in group)
        config = deepspeed_config(self.stage, self.deepspeed, train, world_size(), trainable, device)
        return ZeroEngine(module, optimizer, config, train, device)
