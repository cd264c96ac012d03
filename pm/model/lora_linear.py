"""A linear layer with low-rank matrices beside it (Hu et al. 2021, "LoRA"), for training.

PEFT's layer copies its input to float32, because that is the dtype of the matrices, has autocast copy it back, and
scales and adds in kernels of their own. Here the matrices are cast instead, which are a few hundred times smaller than
what flows through them, and the second product adds itself to the layer's own output. Names of parameters are PEFT's,
so a checkpoint fits both.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import skip_init

ADAPTER_NAME = "photomaker"


class LoraLinear(nn.Module):
    """y = W x + b + s B A x; W and b are the layer's own and frozen."""

    def __init__(self, layer: nn.Linear, rank: int) -> None:
        """Wrap a layer. A is Gaussian with a deviation of 1 / rank, B zero, as PEFT's `init_lora_weights="gaussian"`.

        Args:
            layer: [in] to [out]; it becomes part of this one.
            rank: r of A [r, in] and B [out, r], which have the layer's dtype and device.
        """
        super().__init__()
        place = {"bias": False, "device": layer.weight.device, "dtype": layer.weight.dtype}
        self.base_layer = layer
        self.lora_A = nn.ModuleDict({ADAPTER_NAME: skip_init(nn.Linear, layer.in_features, rank, **place)})
        self.lora_B = nn.ModuleDict({ADAPTER_NAME: skip_init(nn.Linear, rank, layer.out_features, **place)})
        self.calls_parts = False  # compute by calling A and B, for what hooks into modules' calls, as ZeRO-3 does
        self.scaling = {ADAPTER_NAME: 1.0}  # s, as PEFT's layers keep it; 0: the layer alone
        a, b = self.matrices()
        nn.init.normal_(a, std=1 / rank)
        nn.init.zeros_(b)

    def matrices(self) -> tuple[Tensor, Tensor]:
        """A and B."""
        halves: tuple[Any, Any] = (self.lora_A[ADAPTER_NAME], self.lora_B[ADAPTER_NAME])
        return halves[0].weight, halves[1].weight

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] to [..., out], in the dtype that the layer alone would give."""
        shape, scale, device = x.shape[:-1], self.scaling[ADAPTER_NAME], x.device.type
        if device != "meta" and torch.is_autocast_enabled(device):  # once, not for each of the two products
            x = x.to(torch.get_autocast_dtype(device))
        x = x.reshape(-1, x.shape[-1])
        y: Tensor = self.base_layer(x)
        if scale != 0 and self.calls_parts:
            y = y + scale * self.lora_B[ADAPTER_NAME](self.lora_A[ADAPTER_NAME](x))
        elif scale != 0:
            a, b = (matrix.to(y.dtype) for matrix in self.matrices())
            # In place: out of place it would first copy y, which nothing else holds.
            y = y.addmm_(F.linear(x, a), b.t(), alpha=scale)
        return y.view(*shape, -1)

    def extra_repr(self) -> str:
        return f"rank={self.matrices()[0].shape[0]}"


def wrap_linears(
    model: nn.Module, rank: int, targets: tuple[str, ...], make: Callable[[nn.Linear, int], nn.Module] = LoraLinear
) -> list[str]:
    """Put a `LoraLinear`, or what else `make` makes of a layer and a rank, around every layer whose name ends with one
    of `targets`, in place.

    Returns:
        names of modules with such a name that are no linear layers; they are left as they are.
    """
    ends = tuple(f".{target}" for target in targets)
    named = [(name, module) for name, module in model.named_modules() if f".{name}".endswith(ends)]
    odd = [name for name, module in named if not isinstance(module, nn.Linear)]
    if not odd:
        for name, layer in named:
            owner, _, last = name.rpartition(".")
            setattr(model.get_submodule(owner), last, make(layer, rank))
    return odd
