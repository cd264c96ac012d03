"""A GPU that is not there: tensors without numbers that say they are on it, so that a step can be followed anywhere.

Reading a number from such a tensor (`.item()`, `.tolist()`, `bool()`, a shape that depends on numbers) is an error, as
it would make the host wait for a real GPU. `Operations` notes what is started and what is copied between host and GPU.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

M = TypeVar("M", bound=nn.Module)
# What only looks at a tensor in another way, or allocates: no kernel.
_FREE = ("view", "reshape", "transpose", "permute", "expand", "slice", "select", "split", "chunk", "detach", "squeeze")
_FREE += ("unsqueeze", "alias", "as_strided", "empty", "new_empty", "t.", "is_", "unbind", "set_")


@contextmanager
def fake_cuda() -> Iterator[FakeTensorMode]:
    """Inside, new tensors have no numbers and say what device they like; autocast believes in a GPU."""
    with ExitStack() as stack:
        stack.enter_context(patch("torch.cuda.is_available", lambda: True))
        stack.enter_context(patch("torch.cuda.is_bf16_supported", lambda *_, **__: True))
        stack.enter_context(patch("torch.cuda.amp.common.amp_definitely_not_available", lambda: False))
        mode = stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        stack.enter_context(_Bridged(mode))
        yield mode


def to_cuda(tensor: Tensor) -> Tensor:
    """A tensor of this shape on the GPU."""
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cuda")


def module_to_cuda(module: M, gradients: bool = False) -> M:
    """A module, its parameters and buffers replaced by others of the same shapes on the GPU.

    `gradients`: parameters that want some still do; autocast then follows them, which a build without CUDA cannot.
    """
    for child in module.modules():
        for name, value in child._parameters.items():
            if value is not None:
                child._parameters[name] = nn.Parameter(to_cuda(value), gradients and value.requires_grad)
        for name, buffer in child._buffers.items():
            child._buffers[name] = buffer if buffer is None else to_cuda(buffer)
    return module


class Operations(TorchDispatchMode):
    """Counts what is started on the GPU, by name, and keeps what is copied between it and the host."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.copies: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = str(func).removeprefix("aten.")
        places = [{x.device.type for x in tree_leaves(values) if isinstance(x, Tensor)} for values in (args, out)]
        if places[0] | places[1] == {"cpu", "cuda"} and "copy" in name:
            self.copies.append(f"{name} {places[0]} -> {places[1]}")
        if "cuda" in places[0] | places[1] and not name.lstrip("_").removeprefix("unsafe_").startswith(_FREE):
            self.counts[name] += 1
        return out


class _Bridged(TorchFunctionMode):
    """What Python's own forms ask of CUDA, by the operations that they stand for: its present device, for example."""

    def __init__(self, mode: FakeTensorMode) -> None:
        super().__init__()
        self._mode = mode

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        form = _FORMS.get(func)
        if func is torch.Tensor.to and not isinstance(args[0], FakeTensor):
            args = (self._mode.from_tensor(args[0]), *args[1:])
        return func(*args, **(kwargs or {})) if form is None else form(*args, **(kwargs or {}))


def _to(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    device, dtype, waits, _ = torch._C._nn._parse_to(*args, **kwargs)
    if (device is None or device.type == x.device.type) and dtype in (None, x.dtype):
        return x
    place = {"device": device or x.device, "dtype": dtype or x.dtype, "non_blocking": waits}
    found: Tensor = torch.ops.aten._to_copy.default(x, **place)
    return found


def _contiguous(x: Tensor, memory_format: Any = torch.contiguous_format) -> Tensor:
    if x.is_contiguous(memory_format=memory_format):
        return x
    found: Tensor = torch.ops.aten.clone.default(x, memory_format=memory_format)
    return found


def _item(x: Tensor, index: Any) -> Tensor:
    parts = list(index) if isinstance(index, tuple) else [index]
    if any(part is Ellipsis for part in parts):
        at = next(i for i, part in enumerate(parts) if part is Ellipsis)
        missing = x.ndim - sum(part is not None and part is not Ellipsis for part in parts)
        parts[at : at + 1] = [slice(None)] * missing
    dim, tensors = 0, {}
    for part in parts:
        if part is None:
            x = x.unsqueeze(dim)
        elif isinstance(part, int):
            x, dim = x.select(dim, part), dim - 1
        elif isinstance(part, slice):
            if part != slice(None):
                x = torch.ops.aten.slice.Tensor(x, dim, part.start, part.stop, part.step or 1)
        else:
            tensors[dim] = part
        dim += 1
    if not tensors:
        return x
    found: Tensor = torch.ops.aten.index.Tensor(x, [tensors.get(i) for i in range(max(tensors) + 1)])
    return found


_FORMS = {
    torch.Tensor.__getitem__: _item,
    torch.Tensor.to: _to,
    torch.Tensor.contiguous: _contiguous,
    torch.Tensor.copy_: torch.ops.aten.copy_.default,
    torch.Tensor.__invert__: torch.ops.aten.bitwise_not.default,
    torch.Tensor.__float__: torch.Tensor.item,
    torch.Tensor.__int__: torch.Tensor.item,
    torch.Tensor.__index__: torch.Tensor.item,
}
