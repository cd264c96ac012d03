"""One optimizer update on many workers, behind one small interface; every engine has a file of its own.

Trainable parameters and optimizer states are float32 whatever the precision of the frozen parts, so no engine needs a
second master copy. A state is named, whole tensors: a run may continue on another number of workers or another engine.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn

from pm.errors import CheckpointError
from pm.train.config import TrainConfig

MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass
class EngineState:
    """Weights and AdamW moments by parameter name, float32 on the CPU; on ranks other than 0 the dicts are empty."""

    updates: int  # optimizer updates made so far
    weights: dict[str, Tensor] = field(default_factory=dict)
    moments: dict[str, dict[str, Tensor]] = field(default_factory=dict)  # "exp_avg" | "exp_avg_sq" -> by name


class Engine(Protocol):
    """What the training loop sees. Every method is called by all ranks, equally often and in the same order."""

    module: nn.Module
    updates: int
    splits_weights: bool  # the workers hold parts of the frozen weights too, as ZeRO-3 does

    def forward(self, *args: Any) -> Any:
        """Run the module."""

    def backward(self, loss: Tensor) -> None:
        """Accumulate the gradients of one micro-batch; `loss` is the mean over its samples."""

    def step(self) -> Tensor | float:
        """Average the gradients over workers and micro-batches, clip, update. Returns their norm before clipping."""

    def set_lr(self, factor: float) -> None:
        """Scale every group's learning rate by `factor`."""

    def local_weights(self) -> list[Tensor]:
        """The float32 tensors that this rank updates; what a moving average follows."""

    def state_dict(self) -> EngineState:
        """Gather the state on rank 0."""

    def load_moments(self, state: EngineState) -> None:
        """Put gathered AdamW moments (whole on every rank) and the update count back."""

    def gather_trainable(self, everywhere: bool = False) -> dict[str, Tensor]:
        """The trainable weights by name, float32 on the CPU, whole; on rank 0, or `everywhere`; else an empty dict."""

    def scatter_trainable(self, weights: Mapping[str, Tensor]) -> None:
        """Put whole weights (given on every rank) into `local_weights`, for the moving average."""

    def gather_params(self, parameters: Iterable[nn.Parameter], modify: bool = False) -> AbstractContextManager[None]:
        """While open, `parameters` are whole on every rank; with `modify` what rank 0 wrote into them is kept."""


def world_size() -> int:
    """Number of workers; 1 without a process group."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """This worker's number; 0 without a process group."""
    return dist.get_rank() if dist.is_initialized() else 0


def named_trainable(module: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that are trained, by name, in the module's order."""
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


def load_weights(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Copy saved weights into a module, before an engine is built around it.

    Raises:
        CheckpointError: other names or shapes than the module's.
    """
    own = named_trainable(module)
    wrong = sorted(own.keys() ^ weights.keys())
    wrong += [name for name in own.keys() & weights.keys() if own[name].shape != weights[name].shape]
    if wrong:
        raise CheckpointError(
            f"the checkpoint does not fit this adapter: {len(wrong)} parameters differ, e.g. {wrong[0]!r}; "
            "train under another name= or with the settings the run was started with"
        )
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(weights[name])


def make_optimizer(
    groups: Mapping[str, list[nn.Parameter]], config: TrainConfig, device: torch.device
) -> torch.optim.AdamW:
    """AdamW over the named groups, each with its own learning rate (kept as `base_lr`), fused."""
    rates = {"lora": config.lr_lora, "id_encoder": config.lr_id_encoder}
    settings = [
        {"params": list(parameters), "lr": rates[name], "base_lr": rates[name], "name": name}
        for name, parameters in groups.items()
        if parameters
    ]
    return torch.optim.AdamW(
        settings,
        betas=(config.betas[0], config.betas[1]),
        weight_decay=config.weight_decay,
        fused=device.type in ("cpu", "cuda"),
    )


@contextmanager
def weights_replaced(engine: Engine, weights: Mapping[str, Tensor] | None) -> Iterator[None]:
    """Run the module with other weights (whole, on every rank) for a while, then with its own again; None: its own."""
    if weights is None:
        yield
        return
    parameters = named_trainable(engine.module)

    def write(values: Mapping[str, Tensor]) -> None:
        with engine.gather_params(parameters.values(), modify=True), torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(values[name])

    own = engine.gather_trainable(everywhere=True)
    write(weights)
    try:
        yield
    finally:
        write(own)


def scale_lr(optimizer: Any, factor: float) -> None:
    """Set every parameter group's learning rate to `factor` times its base rate."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor


def fresh_moments(parameter: Tensor, optimizer: torch.optim.Optimizer, updates: int) -> dict[str, Tensor]:
    """AdamW's state of one parameter after `updates` updates, with zero moments."""
    on_device = optimizer.defaults.get("fused") or optimizer.defaults.get("capturable")
    device = parameter.device if on_device else torch.device("cpu")
    step = torch.tensor(float(updates), dtype=torch.float32, device=device)
    return {"step": step, **{key: torch.zeros_like(parameter.data) for key in MOMENTS}}


def on_cpu(tensor: Tensor) -> Tensor:
    """A float32 copy on the CPU."""
    return tensor.detach().to("cpu", torch.float32, copy=True)
