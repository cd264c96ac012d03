"""Plain data parallelism: every worker holds everything. The fastest while it fits."""

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from pm.train.config import TrainConfig
from pm.train.engine.base import (
    MOMENTS,
    EngineState,
    fresh_moments,
    load_weights,
    make_optimizer,
    named_trainable,
    on_cpu,
    rank,
    scale_lr,
    world_size,
)
from pm.train.engine.choice import EngineChoice


@dataclass(frozen=True)
class DdpChoice(EngineChoice):
    """Data parallelism without DeepSpeed."""

    def build(
        self, module: nn.Module, groups: Mapping[str, list[nn.Parameter]], train: TrainConfig, device: torch.device
    ) -> "TorchEngine":
        module.to(device)
        return TorchEngine(module, make_optimizer(groups, train, device), train)


class TorchEngine:
    """Data parallelism with one flat gradient buffer: one all-reduce, one norm and no buckets.

    An adapter is small next to the frozen model's forward pass, so overlapping its reduction with the backward pass
    would save little; the flat buffer makes accumulation, clipping and unused parameters plain arithmetic.
    """

    splits_weights = False

    def __init__(self, module: nn.Module, optimizer: torch.optim.Optimizer, train: TrainConfig):
        self.module, self.optimizer = module, optimizer
        self.updates = 0
        self._accumulation = train.accumulation(world_size())
        self._grad_clip = train.grad_clip
        self._named = named_trainable(module)
        parameters = list(self._named.values())
        self._grads = parameters[0].new_zeros(sum(p.numel() for p in parameters))
        # Autograd adds in place into a gradient that is already there, so the views stay views.
        for parameter, view in zip(parameters, self._grads.split([p.numel() for p in parameters]), strict=True):
            parameter.grad = view.view_as(parameter)
        if world_size() > 1:
            with torch.no_grad():
                flat = torch.cat([p.flatten() for p in parameters])
                dist.broadcast(flat, 0)
                for p, value in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
                    p.copy_(value.view_as(p))

    def forward(self, *args: Any) -> Any:
        return self.module(*args)

    def backward(self, loss: Tensor) -> None:
        (loss / self._accumulation).backward()

    def step(self) -> Tensor:
        if world_size() > 1:
            dist.all_reduce(self._grads)
            self._grads.div_(world_size())
        norm = torch.linalg.vector_norm(self._grads)
        if self._grad_clip is not None:
            self._grads.mul_((self._grad_clip / (norm + 1e-6)).clamp(max=1.0))
        self.optimizer.step()
        self._grads.zero_()
        self.updates += 1
        return norm

    def set_lr(self, factor: float) -> None:
        scale_lr(self.optimizer, factor)

    def local_weights(self) -> list[Tensor]:
        return [p.data for p in self._named.values()]

    def state_dict(self) -> EngineState:
        state = EngineState(self.updates, self.gather_trainable())
        if rank() == 0 and self.updates > 0:
            of = self.optimizer.state
            state.moments = {k: {n: on_cpu(of[p][k]) for n, p in self._named.items()} for k in MOMENTS}
        return state

    def load_moments(self, state: EngineState) -> None:
        self.updates = state.updates
        for name, parameter in self._named.items():
            if state.updates > 0:
                slot = fresh_moments(parameter, self.optimizer, state.updates)
                for key in MOMENTS:
                    slot[key].copy_(state.moments[key][name])
                self.optimizer.state[parameter] = slot

    def gather_trainable(self, everywhere: bool = False) -> dict[str, Tensor]:
        return {name: on_cpu(p) for name, p in self._named.items()} if rank() == 0 or everywhere else {}

    def scatter_trainable(self, weights: Mapping[str, Tensor]) -> None:
        load_weights(self.module, weights)

    def gather_params(self, parameters: Iterable[nn.Parameter], modify: bool = False) -> AbstractContextManager[None]:
        return nullcontext()
