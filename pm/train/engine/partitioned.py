"""The engine over DeepSpeed ZeRO stages 1, 2 and 3: AdamW on flat partitions."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import deepspeed
import torch
import torch.distributed as dist
from deepspeed.utils import (
    safe_get_local_fp32_param,
    safe_get_local_optimizer_state,
    safe_set_full_fp32_param,
    safe_set_full_optimizer_state,
    safe_set_local_fp32_param,
    safe_set_local_optimizer_state,
)
from torch import Tensor, nn

from pm.model.lora_types import check_lora_alone
from pm.train.config import TrainConfig
from pm.train.engine.base import (
    MOMENTS,
    EngineState,
    fresh_moments,
    named_trainable,
    rank,
    scale_lr,
    world_size,
)
from pm.train.engine.deepspeed_config import LARGEST_BUCKET
from pm.train.engine.join import join_process_group
from pm.train.engine.linked import link_moments
from pm.train.engine.zero3 import PersistentWeights, fetch_frozen_parts_whole, parameter_shape, share


class ZeroEngine:
    """AdamW on flat partitions: each rank holds and updates its share (stage 3: of the frozen weights too)."""

    def __init__(
        self,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        config: Mapping[str, Any],
        train: TrainConfig,
        device: torch.device,
    ):
        """Wrap a module; `config` is what `deepspeed_config` derived."""
        join_process_group(device)
        self._named = named_trainable(module)
        self._stage, self._accumulation = config["zero_optimization"]["stage"], train.accumulation(world_size())
        self.splits_weights = self._stage == 3
        if self.splits_weights:
            check_lora_alone(module)
            fetch_frozen_parts_whole(module)
        self._engine, wrapper, _, _ = deepspeed.initialize(model=module, optimizer=optimizer, config=dict(config))
        self.module = self._engine.module
        self.updates = 0
        self._zero, self._adam = wrapper, optimizer
        self._pending = 0
        self._partitions = (
            wrapper.fp32_partitioned_groups_flat if self.splits_weights else wrapper.single_partition_of_fp32_groups
        )
        for part in self._partitions:  # AdamW would make these in its first step
            optimizer.state[part] = fresh_moments(part, optimizer, updates=0)
        if not self.splits_weights:
            link_moments(wrapper)
        self._persistent = PersistentWeights(wrapper if self.splits_weights else None, LARGEST_BUCKET)
        self._device = device
        sizes = torch.tensor([self._piece(p, None).numel() for p in self._named.values()], device=device)
        self._sizes = [row.tolist() for row in _all_gather(sizes)]  # of every rank's pieces

    def forward(self, *args: Any) -> Any:
        return self._engine(*args)

    def backward(self, loss: Tensor) -> None:
        self._engine.backward(loss)  # divides by the number of micro-batches itself
        self._pending += 1
        if self._pending < self._accumulation:
            self._engine.step()  # counts; updates only at the last micro-batch

    def step(self) -> float:
        self._persistent.hold()
        self._engine.step()
        self._persistent.gather()
        self._pending = 0
        # DeepSpeed leaves the weights alone when a gradient is not finite.
        self.updates += not self._zero.overflow
        return self._engine.get_global_grad_norm()

    def set_lr(self, factor: float) -> None:
        scale_lr(self._adam, factor)

    def local_weights(self) -> list[Tensor]:
        return [part.data for part in self._partitions]

    def state_dict(self) -> EngineState:
        state = EngineState(self.updates, self.gather_trainable())
        if self.updates > 0:
            state.moments = {key: self._gathered(key) for key in MOMENTS}
        return state

    def load_moments(self, state: EngineState) -> None:
        self.updates = state.updates
        if state.updates == 0:
            return
        for part in self._partitions:
            self._adam.state[part]["step"].fill_(state.updates)
        for name, parameter in self._named.items():
            for key in MOMENTS:
                value = state.moments[key][name].to(parameter.device)
                if self._stage == 3:
                    safe_set_local_optimizer_state(parameter, share(parameter, value), key)
                else:
                    safe_set_full_optimizer_state(parameter, value, key)

    def gather_trainable(self, everywhere: bool = False) -> dict[str, Tensor]:
        return self._gathered(everywhere=everywhere)

    def scatter_trainable(self, weights: Mapping[str, Tensor]) -> None:
        for name, parameter in self._named.items():
            value = weights[name].to(parameter.device)
            if self._stage == 3:
                safe_set_local_fp32_param(parameter, share(parameter, value))
            else:
                safe_set_full_fp32_param(parameter, value)

    @contextmanager
    def gather_params(self, parameters: Iterable[nn.Parameter], modify: bool = False) -> Iterator[None]:
        if self._stage == 3:
            with deepspeed.zero.GatheredParameters(list(parameters), modifier_rank=0 if modify else None):
                yield
            self._persistent.gather()  # they were partitioned with the others
        else:
            yield

    def _piece(self, parameter: nn.Parameter, key: str | None) -> Tensor:
        """The flat part of a weight (`key`: of an AdamW moment) that this rank updates; maybe empty."""
        if self._stage == 3:
            if key is None:
                return safe_get_local_fp32_param(parameter)
            return safe_get_local_optimizer_state(parameter, key)
        fragment: Any = getattr(parameter, "_hp_mapping")  # noqa: B009 - DeepSpeed put it there
        return torch.empty(0, device=parameter.device) if fragment is None else fragment.get_hp_fragment(key)

    @torch.no_grad()
    def _gathered(self, key: str | None = None, everywhere: bool = False) -> dict[str, Tensor]:
        """All ranks' pieces put together, on rank 0 or `everywhere`; else an empty dict.

        All tensors travel at once: with a collective for each, a checkpoint stopped two workers on a CPU for a second.
        """
        mine = torch.cat([self._piece(p, key) for p in self._named.values()])
        keep = rank() == 0 or everywhere
        rows: list[list[Tensor]] = [[] for _ in self._sizes]
        longest, most = max(map(sum, self._sizes)), max(1, LARGEST_BUCKET // world_size())
        mine = torch.nn.functional.pad(mine, (0, longest - mine.numel()))
        for part in mine.split(most):  # bounds the memory that gathering takes on the device
            for row, values in zip(rows, _all_gather(part.to(self._device)), strict=True):
                if keep:
                    row.append(values.cpu())
        if not keep:
            return {}
        pieces = [torch.cat(row)[: sum(own)].split(own) for row, own in zip(rows, self._sizes, strict=True)]
        whole = {}
        for (name, parameter), parts in zip(self._named.items(), zip(*pieces, strict=True), strict=True):
            shape = parameter_shape(parameter)
            whole[name] = torch.cat(parts)[: shape.numel()].view(shape)  # ZeRO-3 pads the last piece
        return whole


def _all_gather(mine: Tensor) -> list[Tensor]:
    """Every rank's tensor, all of one shape, by rank."""
    found = [torch.empty_like(mine) for _ in range(world_size())]
    dist.all_gather(found, mine)
    return found
