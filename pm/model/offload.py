"""Weights that rest in the CPU's memory and visit the accelerator only while they compute.

Whole parts one at a time (`model`), or every layer by itself (`sequential`): the first needs the memory of the largest
part, the U-Net, and little time; the second that of a layer, and a transfer of every weight in every step.

A module that is offloaded looks like one on the CPU: its inputs are moved to the accelerator, and its results back.
So nothing else needs to know of it. Weights are never copied back, since they do not change.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

Offload = Literal["none", "model", "sequential"]
_CPU = torch.device("cpu")
# Of modules that are not called as a whole: VAEs, adapters.
_METHODS = ("encode", "decode", "embed", "condition")


class Offloader:
    """Modules that share an accelerator."""

    def __init__(self, device: torch.device, kind: Offload) -> None:
        """`device`: where they compute. `kind`: "model" or "sequential"."""
        self.device, self.kind = device, kind
        self.visits = 0  # of units, since the start
        self._there: nn.Module | None = None  # which unit stays on the accelerator until another one comes
        self._resting: dict[int, list[tuple[Tensor, Tensor]]] = {}  # by unit: tensors, and what they are on the CPU
        self._hooks: list[Any] = []

    def add(self, module: nn.Module, *, stays: bool = False) -> None:
        """Let a module rest on the CPU from now on. `stays`: it may stay between its calls, as the U-Net does."""
        module.to(_CPU)
        if stays:
            _say_cpu(module)
        for whole in called(module):
            units = list(_owners(whole)) if self.kind == "sequential" else [whole]
            for unit in units:
                self._hooks.append(unit.register_forward_pre_hook(self._enter(unit, stays), with_kwargs=True))
            # Results go back from the whole alone: between its layers they stay on the accelerator.
            if whole not in units:
                self._hooks.append(whole.register_forward_pre_hook(self._bring, with_kwargs=True))
            for unit in units:
                if self.kind == "sequential" or not stays:
                    self._hooks.append(unit.register_forward_hook(lambda module, args, output: self._rest(module)))
            self._hooks.append(whole.register_forward_hook(lambda module, args, output: moved(output, _CPU)))

    def remove(self) -> None:
        """Take the hooks off again; the modules stay on the CPU."""
        self.rest()
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def rest(self) -> None:
        """Nothing is on the accelerator afterwards. Needed before weights are exchanged from outside."""
        for kept in self._resting.values():
            for tensor, resting in kept:
                tensor.data = resting
        self._there, self._resting = None, {}

    def _enter(self, unit: nn.Module, stays: bool) -> Any:
        recurse = self.kind == "model"

        def enter(module: nn.Module, args: Any, kwargs: Any) -> Any:
            if id(unit) not in self._resting:
                if self.kind == "model":
                    self.rest()
                self.visits += 1
                own = [*unit.parameters(recurse=recurse), *unit.buffers(recurse=recurse)]
                self._resting[id(unit)] = [(tensor, tensor.data) for tensor in own]
                for tensor in own:
                    tensor.data = tensor.data.to(self.device, non_blocking=True)
            return moved((args, kwargs), self.device)

        return enter

    def _bring(self, module: nn.Module, args: Any, kwargs: Any) -> Any:
        return moved((args, kwargs), self.device)

    def _rest(self, unit: nn.Module) -> None:
        for tensor, resting in self._resting.pop(id(unit), ()):
            tensor.data = resting


def moved(value: Any, device: torch.device) -> Any:
    """Tensors in tuples, lists, mappings and outputs of the model libraries, on a device."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, Mapping):
        named = {key: moved(each, device) for key, each in value.items()}
        kind: Any = type(value)
        return named if kind is dict else kind(**named)
    if isinstance(value, list | tuple):
        kind, inside = type(value), [moved(each, device) for each in value]
        return kind(*inside) if hasattr(value, "_fields") else kind(inside)
    return value


def called(module: nn.Module) -> Iterator[nn.Module]:
    """What of a module is called as a whole: itself, or parts of it where others call its methods."""
    if not any(True for _ in module.parameters()):
        return
    abstract = type(module).forward is nn.Module.forward
    if abstract or any(hasattr(module, name) for name in _METHODS):
        for child in module.children():
            yield from called(child)
    else:
        yield module


def _owners(module: nn.Module) -> Iterator[nn.Module]:
    """Modules that have parameters or buffers of their own."""
    for each in module.modules():
        if any(True for _ in each.parameters(recurse=False)) or any(True for _ in each.buffers(recurse=False)):
            yield each


def _say_cpu(module: nn.Module) -> None:
    """Let `module.device` say where its inputs belong, not where its weights happen to be."""
    kind = type(module)
    if isinstance(getattr(kind, "device", None), property) and not getattr(kind, "_says_cpu", False):
        own = {"device": property(lambda self: _CPU), "_says_cpu": True, "__module__": kind.__module__}
        module.__class__ = type(kind.__name__, (kind,), own)
