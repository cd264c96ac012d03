"""A U-Net compiled by torch.compile: whole, or only the blocks that it repeats.

`regional` compiles one block of each kind, in seconds; `full` the whole U-Net, in minutes, for steps that are a little
faster still. Both for batches and sizes of any number, except that one row has code of its own.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal
from weakref import WeakKeyDictionary

import torch
from torch import nn

from pm.errors import ConfigError

Compile = Literal["off", "regional", "full"]
# Variants of one block: widths, with a mask and without, one row and several. Beyond this PyTorch runs it uncompiled.
_VARIANTS = 64
_COMPILED: WeakKeyDictionary[nn.Module, list[Any]] = WeakKeyDictionary()  # model -> its modules that are


def compile_unet(unet: nn.Module, how: Compile, **options: Any) -> None:
    """Compile a U-Net in place; its code is made when it is first called.

    Args:
        unet: of diffusers.
        how: "off" changes nothing.
        options: of `torch.compile`; sizes may change (`dynamic=True`) unless they say otherwise.

    Raises:
        ConfigError: "regional" for a model that does not say what it repeats.
    """
    if how == "off":
        return
    parts: list[Any] = [unet]
    if how == "regional":
        repeated = tuple(getattr(unet, "_repeated_blocks", None) or ())
        parts = [module for module in unet.modules() if type(module).__name__ in repeated]
        if not parts:
            raise ConfigError(f"compile=regional does not know the blocks of {type(unet).__name__}; use compile=full")
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, _VARIANTS)
    for part in parts:
        part.compile(**({"dynamic": True} | options))
    _COMPILED[unet] = parts


@contextmanager
def as_written(module: nn.Module, *, whole_only: bool = False) -> Iterator[None]:
    """Inside, calls of a module run as it is written: compiled code would not know of hooks that come and go.

    `whole_only`: for a hook on no block that is compiled by itself; those stay compiled.
    """
    whole: Any = module
    parts = _COMPILED.get(module) or ([whole] if whole._compiled_call_impl is not None else [])
    if whole_only:
        parts = [part for part in parts if part is whole]
    compiled = [part._compiled_call_impl for part in parts]
    for part in parts:
        part._compiled_call_impl = None
    try:
        yield
    finally:
        for part, own in zip(parts, compiled, strict=True):
            part._compiled_call_impl = own


def recompiled(module: nn.Module) -> None:
    """Let compiled code be made again with the next call, where there is any."""
    if module in _COMPILED:
        torch.compiler.reset()
