"""What a LoRA changes in one layer, in the forms that keep it small: dW = B A, a Kronecker product, or dW itself.

Shapes: a layer's weight is [out, in] (linear) or [out, in, kh, kw] (convolution); b rows of a batch, R ranks.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class Change:
    """A change of one layer, its strength already in it."""

    def delta(self) -> Tensor:
        """dW as a whole, float32 in the shape of the layer's weight."""
        raise NotImplementedError

    def added(self, layer: Any, x: Tensor, scale: Tensor) -> Tensor:
        """What the layer's output gains: scale * dW x.

        Args:
            layer: the linear or convolutional layer; its weights are not used.
            x: its input, [b, ..., in] or [b, in, h, w].
            scale: [b, 1] in the dtype of `x`, of each row.
        """
        raise NotImplementedError

    def add(self, layer: Any, x: Tensor, scale: Tensor | None, output: Tensor) -> None:
        """The same, added to `output` in place. `scale`: None: it is in the change already (`LowRank.times`)."""
        assert scale is not None
        output.add_(self.added(layer, x, scale))

    @property
    def tensors(self) -> dict[str, Tensor]:
        return {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}

    @property
    def nbytes(self) -> int:
        return sum(value.nbytes for value in self.tensors.values())

    def to(self, *args: Any, **kwargs: Any) -> "Change":
        """Move or cast, like `Tensor.to`."""
        return replace(self, **{name: value.to(*args, **kwargs) for name, value in self.tensors.items()})

    def finite(self) -> bool:
        """Neither NaN nor infinite."""
        return all(bool(torch.isfinite(value).all()) for value in self.tensors.values())


@dataclass(frozen=True, eq=False)
class LowRank(Change):
    """dW = up down (Hu et al. 2021, section 4.1); its `scale` has a column for each rank."""

    down: Tensor  # [R, in] or [R, in, kh, kw]
    up: Tensor  # [out, R]

    def delta(self) -> Tensor:
        down = self.down.float()
        return (self.up.float() @ down.flatten(1)).unflatten(1, down.shape[1:])

    def added(self, layer: Any, x: Tensor, scale: Tensor | None) -> Tensor:
        return _applied(layer, self._inner(layer, x, scale), self.up, last=True)

    def add(self, layer: Any, x: Tensor, scale: Tensor | None, output: Tensor) -> None:
        if isinstance(layer, nn.Linear) and output.is_contiguous():  # without the sum in between
            output.view(-1, output.shape[-1]).addmm_(self._inner(layer, x, scale).flatten(0, -2), self.up.t())
        else:
            output.add_(self.added(layer, x, scale))

    def times(self, scale: Tensor) -> "LowRank":
        """With a strength for each rank [R] in it."""
        return LowRank(self.down, self.up * scale)

    def _inner(self, layer: Any, x: Tensor, scale: Tensor | None) -> Tensor:
        inner = _applied(layer, x, self.down)
        return inner if scale is None else inner.mul_(_spread(layer, scale, x))


@dataclass(frozen=True, eq=False)
class Kronecker(Change):
    """dW = left ⊗ right, which is never made: the right factor acts inside blocks of the input, the left between them.

    LoKr (Yeh et al. 2023, "Navigating Text-To-Image Customization", section 3).
    """

    left: Tensor  # [out_1, in_1]
    right: Tensor  # [out_2, in_2] or [out_2, in_2, kh, kw]

    def delta(self) -> Tensor:
        left = self.left.float().reshape(*self.left.shape, *[1] * (self.right.dim() - 2))
        return torch.kron(left, self.right.float().contiguous())

    def added(self, layer: Any, x: Tensor, scale: Tensor) -> Tensor:
        x = x * _spread(layer, scale, x)
        if isinstance(layer, nn.Linear):
            inner = F.linear(x.unflatten(-1, (self.left.shape[1], -1)), self.right)
            return torch.matmul(self.left, inner).flatten(-2)
        rows, blocks = x.shape[0], self.left.shape[1]
        inner = _applied(layer, x.reshape(rows * blocks, -1, *x.shape[2:]), self.right)
        inner = inner.view(rows, blocks, *inner.shape[1:])
        return torch.einsum("ab,nbchw->nachw", self.left, inner).flatten(1, 2)


@dataclass(frozen=True, eq=False)
class Dense(Change):
    """dW itself, for what no small form has."""

    weight: Tensor  # of the layer's weight's shape

    def delta(self) -> Tensor:
        return self.weight.float()

    def added(self, layer: Any, x: Tensor, scale: Tensor) -> Tensor:
        return _applied(layer, x * _spread(layer, scale, x), self.weight)


@dataclass(frozen=True, eq=False)
class Bias(Change):
    """A change of the layer's bias beside that of its weight."""

    weight: Change
    bias: Tensor  # [out]

    def delta(self) -> Tensor:
        return self.weight.delta()

    def added(self, layer: Any, x: Tensor, scale: Tensor) -> Tensor:
        found = self.weight.added(layer, x, scale)
        own = self.bias.view(-1, 1, 1) if isinstance(layer, nn.Conv2d) else self.bias
        return found + own * _spread(layer, scale[:, :1], x)

    @property
    def nbytes(self) -> int:
        return self.weight.nbytes + self.bias.nbytes

    def to(self, *args: Any, **kwargs: Any) -> Change:
        return Bias(self.weight.to(*args, **kwargs), self.bias.to(*args, **kwargs))

    def finite(self) -> bool:
        return self.weight.finite() and super().finite()


def stacked(changes: list[LowRank]) -> LowRank:
    """Several changes of one layer as one, their ranks one after the other."""
    if len(changes) == 1:
        return changes[0]
    return LowRank(torch.cat([each.down for each in changes]), torch.cat([each.up for each in changes], 1))


def _applied(layer: Any, x: Tensor, weight: Tensor, *, last: bool = False) -> Tensor:
    """`weight` in place of the layer's own, without bias; `last`: after that, a point at a time."""
    if isinstance(layer, nn.Linear):
        return F.linear(x, weight)
    if last:
        return F.conv2d(x, weight[:, :, None, None])
    return F.conv2d(x, weight, None, layer.stride, layer.padding, layer.dilation)


def _spread(layer: Any, scale: Tensor, x: Tensor) -> Tensor:
    """[b, R] so that it multiplies a layer's values of b rows, channel by channel."""
    if isinstance(layer, nn.Conv2d):
        return scale[:, :, None, None]
    return scale.view(scale.shape[0], *[1] * (x.dim() - 2), scale.shape[1])
