"""Deep features of a U-Net that are kept for some steps: DeepCache (Ma et al. 2024, "DeepCache: Accelerating Diffusion
Models for Free", section 3.3).

What enters the U-Net's last up block changes little from one step to the next. A step that takes it from an earlier one
computes only the first level: the first down block and the last up block, whose skip connections see the new latents.
At SDXL's sizes that leaves out every attention layer.

Shapes: B lines of a call; C_d x h_d x w_d what enters the last up block.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from pm.model.compiled import as_written
from pm.model.conditioning import Conditioning

Call = Callable[[nn.Module, Tensor, Tensor, Conditioning], Tensor]  # a U-Net, noisy, timesteps, conditioning


def can_keep(unet: Any) -> bool:
    """Whether a model has levels that a step could leave out."""
    return min(len(getattr(unet, blocks, ())) for blocks in ("down_blocks", "up_blocks")) > 1


class DeepFeatures:
    """Calls of one U-Net that hand out its deep features, or take them from outside.

    Compiled blocks stay compiled; a U-Net that is compiled whole runs as it is written.
    """

    def __init__(self, unet: Any, call: Call) -> None:
        """`unet`: one that `can_keep`. `call`: as its family makes it."""
        self._unet, self._call = unet, call
        self._last: Any = unet.up_blocks[-1]
        self._first_level = _first_level(unet)

    def whole(self, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning) -> tuple[Tensor, Tensor]:
        """A call of the whole U-Net: its output [B, C, h, w], and the deep features [B, C_d, h_d, w_d]."""
        found: list[Tensor] = []

        def keep(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
            found.append(kwargs["hidden_states"])

        with as_written(self._unet, whole_only=True), _hooked(self._last, keep):
            output = self._call(self._unet, noisy, timesteps, conditioning)
        return output, found[0]

    def first_level(self, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning, features: Tensor) -> Tensor:
        """The output [B, C, h, w] of the first level alone, with deep features [B, C_d, h_d, w_d] of earlier calls."""

        def put(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
            return args, {**kwargs, "hidden_states": features}

        with _hooked(self._last, put):
            return self._call(self._first_level, noisy, timesteps, conditioning)


def _first_level(unet: Any) -> Any:
    """The same U-Net without its other levels; it shares all modules."""
    down = _part(unet.down_blocks[0])
    down.downsamplers = None
    view = _part(unet)
    view.down_blocks, view.mid_block = nn.ModuleList([down]), None
    view.up_blocks = nn.ModuleList([unet.up_blocks[-1]])
    return view


def _part(module: Any) -> Any:
    """A module with the same submodules, some of which may be set anew."""
    view = copy.copy(module)
    view.__dict__["_modules"] = dict(module._modules)
    view.__dict__["_compiled_call_impl"] = None
    return view


@contextmanager
def _hooked(module: nn.Module, hook: Any) -> Iterator[None]:
    handle = module.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()
