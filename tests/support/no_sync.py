"""A CUDA device that is not there, on which whatever the host would wait for raises.

Its tensors have shapes and no numbers (PyTorch's meta device), so reading one (`item`, `tolist`, `bool`) raises by
itself. Copies from the host raise here, but for those that a GPU fetches by itself from pinned memory.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import pm.model.lines

FAKE = torch.device("meta")


class Waits(AssertionError):
    """The host would wait for the device."""


class _Operators(TorchDispatchMode):
    strict = False
    count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        self.count += 1
        if self.strict:
            tensors = [each for each in tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)]
            devices = {each.device.type for each in tensors if each.dim()}
            devices |= {torch.device(kwargs["device"]).type} if tensors and kwargs.get("device") is not None else set()
            late = kwargs.get("non_blocking") or (function is torch.ops.aten.copy_.default and args[2:3] == (True,))
            if len(devices) > 1 and not late:
                raise Waits(f"{function} has tensors on {sorted(devices)}")
        if kwargs.get("pin_memory"):  # which needs a real device
            kwargs["pin_memory"] = False
        if function is torch.ops.aten.copy_.default and args[1].device == FAKE != args[0].device:
            return args[0]
        return function(*args, **kwargs)


class _Calls(TorchFunctionMode):
    """What makes tensors of Python numbers, which operators do not see."""

    def __init__(self, operators: _Operators) -> None:
        super().__init__()
        self._operators = operators

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self._operators.strict:
            made = function in (torch.tensor, torch.as_tensor) and torch.device(kwargs.get("device") or "cpu") == FAKE
            if made or (function is torch.Tensor.new_tensor and args[0].device == FAKE):
                raise Waits(f"{args[-1]!r:.80} is made into a tensor of the device")
            indexed = function in (torch.Tensor.__getitem__, torch.Tensor.__setitem__) and args[0].device == FAKE
            if indexed and any(
                isinstance(each, list) for each in (args[1] if isinstance(args[1], tuple) else [args[1]])
            ):
                raise Waits(f"an index from the host: {args[1]!r:.80}")
        return function(*args, **kwargs)


class _Event:
    """Of a device that has computed nothing yet."""

    def record(self, *_: Any) -> None: ...

    def query(self) -> bool:
        return False

    def synchronize(self) -> None:
        raise Waits("an event is waited for")


class NoWaiting:
    """What `fake_cuda` hands out."""

    def __init__(self, operators: _Operators) -> None:
        self._operators = operators

    @contextlib.contextmanager
    def strict(self) -> Iterator[None]:
        """Inside, `Waits` is raised where the host would wait."""
        self._operators.strict = True
        try:
            yield
        finally:
            self._operators.strict = False

    @property
    def operators(self) -> int:
        """Operators that were called so far."""
        return self._operators.count


@contextlib.contextmanager
def fake_cuda(monkeypatch: Any) -> Iterator[NoWaiting]:
    """Inside, `FAKE` is taken for a CUDA device."""
    monkeypatch.setattr(torch.cuda, "Event", _Event)
    monkeypatch.setattr(pm.model.lines, "queued", lambda device: device == FAKE)
    with _Operators() as operators, _Calls(operators):
        yield NoWaiting(operators)
