"""Preparing a module for DeepSpeed's ZeRO-3 so that only weights that are really partitioned cost something.

Work-arounds on DeepSpeed 0.19's private parts; `tests/distributed/test_workarounds.py` shows the need for each.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from deepspeed.runtime.zero.linear import zero3_linear_wrap
from deepspeed.runtime.zero.partition_parameters import ZeroParamStatus
from deepspeed.utils import set_z3_leaf_module, z3_leaf_module
from torch import Tensor, nn

from pm.model.lora_linear import LoraLinear
from pm.train.engine.base import rank, world_size

Sharded = Any  # a parameter with the attributes that DeepSpeed puts on it


def fetch_frozen_parts_whole(module: nn.Module) -> None:
    """Let ZeRO-3 fetch and release each largest part without trained weights at once: one hook instead of dozens.

    Trained ones come and go with the calls of the module that holds them, so LoRA layers are told to call their parts.
    """
    for child in module.children():
        if isinstance(child, LoraLinear):
            child.calls_parts = True
        frozen = not any(p.requires_grad for p in child.parameters())
        if frozen and not isinstance(child, (nn.ModuleList, nn.ModuleDict)):  # these are never called
            set_z3_leaf_module(child, True)
        else:
            fetch_frozen_parts_whole(child)


class PersistentWeights:
    """The weights that DeepSpeed keeps whole on every rank between two updates; it gathers them after each.

    DeepSpeed makes a collective for each of them and releases and gathers frozen ones as well, and its hooks around
    modules that have no others do nothing. Here they travel together, frozen ones stay, and those hooks are gone.

    Args:
        wrapper: DeepSpeed's ZeRO-3 optimizer, before its first step; None: no weights.
        portion: elements gathered at once; bounds the memory that it takes on the device.
    """

    def __init__(self, wrapper: Any | None, portion: int):
        self._weights: list[Sharded] = []
        self._held: list[Sharded] = []
        self._portion = portion
        if wrapper is not None:
            self._weights, wrapper.persistent_parameters = wrapper.persistent_parameters, []
            _remove_idle_hooks(wrapper.parameter_offload)
            _forget_gathered_linear_weights(wrapper.parameter_offload.module)
            self.gather()

    def hold(self) -> None:
        """Before an update: let DeepSpeed take them for released, which it would do one by one."""
        self._held = [p for p in self._weights if p.ds_status is ZeroParamStatus.AVAILABLE]
        for parameter in self._held:
            parameter.ds_status = ZeroParamStatus.NOT_AVAILABLE

    def gather(self) -> None:
        """After an update, or when they have been partitioned: make all of them whole. Collective."""
        for parameter in self._held:
            if not parameter.requires_grad:  # not changed by the update
                parameter.ds_status = ZeroParamStatus.AVAILABLE
        self._held = []
        missing = [p for p in self._weights if p.ds_status is ZeroParamStatus.NOT_AVAILABLE]
        for portion in _portions(missing, self._portion):
            portion[0].all_gather_coalesced(portion).wait()


def _portions(parameters: list[Sharded], most: int) -> Iterator[list[Sharded]]:
    """Runs of parameters with at most `most` elements each, or of one."""
    portion: list[Sharded] = []
    size = 0
    for parameter in parameters:
        if portion and size + parameter.ds_numel > most:
            yield portion
            portion, size = [], 0
        portion.append(parameter)
        size += parameter.ds_numel
    if portion:
        yield portion


def _remove_idle_hooks(offload: Any) -> None:
    """Take DeepSpeed's hooks off modules that have nothing to fetch or release: no weights, or persistent ones only."""
    needed: set[int] = set()
    for module in offload.module.modules():
        if any(not p.ds_persist for p in module.parameters(recurse=z3_leaf_module(module))):
            needed |= module._forward_pre_hooks.keys() | module._forward_hooks.keys()
    for handles in (offload.forward_hooks, offload.backward_hooks):
        for handle in handles:
            if handle.id not in needed:
                handle.remove()
        handles[:] = [handle for handle in handles if handle.id in needed]


def _forget_gathered_linear_weights(module: nn.Module) -> None:
    """Run partitioned linear layers by DeepSpeed's function, which keeps no gathered weight for the backward pass.

    DeepSpeed's own setting replaces `torch.nn.functional.linear` for the whole process, slower for all other weights.
    """
    for child in module.modules():
        if isinstance(child, nn.Linear) and not getattr(child.weight, "ds_persist", True):
            vars(child)["forward"] = partial(_linear, child)


def _linear(layer: nn.Linear, x: Tensor) -> Tensor:
    return zero3_linear_wrap(x, layer.weight, layer.bias)


def parameter_shape(parameter: nn.Parameter) -> torch.Size:
    """A parameter's whole shape, also while ZeRO-3 has it partitioned (its own shape is then [0])."""
    return getattr(parameter, "ds_shape", parameter.shape)


def share(parameter: Sharded, whole: Tensor) -> Tensor:
    """This rank's flat slice of a whole tensor as ZeRO-3 cuts it: equal slices, the last one padded with zeros."""
    size = parameter.ds_tensor.numel()
    flat = whole.flatten()
    padded = torch.nn.functional.pad(flat, (0, size * world_size() - flat.numel()))
    return padded.narrow(0, size * rank(), size)
