"""Other adapters of a linear layer than LoRA, for training: DoRA and LoKr. Names of parameters are PEFT's.

DoRA (Liu et al. 2024, "DoRA: Weight-Decomposed Low-Rank Adaptation", eq. 5): W' = m (W + B A) / |W + B A|, a trained
length m for each output of the layer and a direction that LoRA turns; the norm has no gradient (section 4.3 there).

LoKr (Yeh et al. 2023, section 3; DiffuseKronA, Marjit et al. 2024): W' = W + w1 ⊗ w2, a Kronecker product, of which the
larger factor w2 is of low rank where that is smaller.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pm.errors import ConfigError
from pm.model.lora_linear import ADAPTER_NAME, LoraLinear


class DoraLinear(LoraLinear):
    """y = m / |W + B A| (W x + B A x) + b; m [out] starts at |W|, so nothing changes at first."""

    def __init__(self, layer: nn.Linear, rank: int) -> None:
        super().__init__(layer, rank)
        length = layer.weight.detach().float().norm(dim=1).to(layer.weight.dtype)
        self.lora_magnitude_vector = nn.ModuleDict({ADAPTER_NAME: _Length(length)})

    @property
    def magnitude(self) -> Tensor:
        """m, [out]."""
        length: Any = self.lora_magnitude_vector[ADAPTER_NAME]
        return length.weight

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] to [..., out], in the dtype that the layer alone would give."""
        base: Any = self.base_layer
        scale = self.scaling[ADAPTER_NAME]
        if scale == 0:
            return base(x)
        with torch.no_grad():
            a, b = (matrix.float() for matrix in self.matrices())
            norm = (base.weight.float() + scale * (b @ a)).norm(dim=1)
        y: Tensor = base(x)
        plain = y if base.bias is None else y - base.bias
        a, b = (matrix.to(y.dtype) for matrix in self.matrices())
        turned = plain + scale * F.linear(F.linear(x.to(y.dtype), a), b)
        turned = turned * (self.magnitude.float() / norm).to(y.dtype)
        return turned if base.bias is None else turned + base.bias


class _Length(nn.Module):
    """A vector as a module's `weight`, as PEFT has it."""

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(value.clone())


class LokrLinear(nn.Module):
    """y = W x + b + s (w1 ⊗ w2) x; w1 starts at zero."""

    def __init__(self, layer: nn.Linear, rank: int) -> None:
        """Wrap a layer.

        Args:
            layer: [in] to [out]; it becomes part of this one.
            rank: of w2 = w2_a w2_b; where its sides are not twice as long, w2 is a matrix of its own.
        """
        super().__init__()
        self.base_layer = layer
        (out_1, out_2), (in_1, in_2) = split(layer.out_features), split(layer.in_features)
        like: dict[str, Any] = {"device": layer.weight.device, "dtype": layer.weight.dtype}
        self.lokr_w1 = _named(torch.zeros(out_1, in_1, **like))
        if rank < max(out_2, in_2) / 2:
            self.lokr_w2_a = _named(_drawn(out_2, rank, like))
            self.lokr_w2_b = _named(_drawn(rank, in_2, like))
        else:
            self.lokr_w2 = _named(_drawn(out_2, in_2, like))
        self.scaling = {ADAPTER_NAME: 1.0}  # s; 0: the layer alone

    def factors(self) -> tuple[Tensor, Tensor]:
        """w1 [out_1, in_1] and w2 [out_2, in_2]."""
        if hasattr(self, "lokr_w2"):
            return self.lokr_w1[ADAPTER_NAME], self.lokr_w2[ADAPTER_NAME]
        return self.lokr_w1[ADAPTER_NAME], self.lokr_w2_a[ADAPTER_NAME] @ self.lokr_w2_b[ADAPTER_NAME]

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] to [..., out], in the dtype that the layer alone would give."""
        y: Tensor = self.base_layer(x)
        scale = self.scaling[ADAPTER_NAME]
        if scale == 0:
            return y
        left, right = (factor.to(y.dtype) for factor in self.factors())
        inner = F.linear(x.to(y.dtype).unflatten(-1, (left.shape[1], -1)), right)
        return y + scale * torch.matmul(left, inner).flatten(-2)


def check_lora_alone(model: nn.Module) -> None:
    """Refuse layers that read their weights as a whole where weights are split over workers.

    Raises:
        ConfigError: the model has some.
    """
    found = next((m for m in model.modules() if isinstance(m, DoraLinear | LokrLinear)), None)
    if found is not None:
        name = "dora" if isinstance(found, DoraLinear) else "lokr"
        raise ConfigError(
            f"adapter.lora_type={name} reads matrices as a whole, which ZeRO-3 splits; use engine=zero2, zero1 or ddp"
        )


def split(size: int) -> tuple[int, int]:
    """The two factors of a side that are nearest to each other, the smaller first."""
    small = next(n for n in range(math.isqrt(size), 0, -1) if size % n == 0)
    return small, size // small


def _named(value: Tensor) -> nn.ParameterDict:
    return nn.ParameterDict({ADAPTER_NAME: nn.Parameter(value)})


def _drawn(rows: int, columns: int, like: dict[str, Any]) -> Tensor:
    value = torch.empty(rows, columns, **like)
    nn.init.kaiming_uniform_(value, a=math.sqrt(5))
    return value
