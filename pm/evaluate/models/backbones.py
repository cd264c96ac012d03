"""The networks whose layers perceptual distances compare: AlexNet, VGG-16, SqueezeNet 1.1, up to their last features.

Their parts are named and counted as in the files that most weights for them are in (`features.0.weight`).
"""

import torch
from torch import Tensor, nn

NETS = ("alex", "vgg", "squeeze")
# Each tap is an activation: the number of the layer whose output is compared (Zhang et al. 2018, appendix).
_TAPS = {"alex": (1, 4, 7, 9, 11), "vgg": (3, 8, 15, 22, 29), "squeeze": (1, 4, 7, 9, 10, 11, 12)}
_VGG = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512)  # 0: halve


class Backbone(nn.Module):
    """Normalised pixels [B, 3, H, W] → the compared layers, each [B, C, h, w]."""

    def __init__(self, net: str):
        """
        Args:
            net: one of `NETS`.
        """
        super().__init__()
        layers = {"alex": _alex, "vgg": _vgg, "squeeze": _squeeze}[net]()
        self.features = nn.ModuleList(layers)
        self.taps = _TAPS[net]

    def forward(self, pixels: Tensor) -> list[Tensor]:
        found, x = [], pixels
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i in self.taps:
                found.append(x)
        return found


def _alex() -> list[nn.Module]:
    first = [nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Conv2d(64, 192, 5, padding=2), nn.ReLU()]
    rest = [nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(), nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()]
    return [*first, nn.MaxPool2d(3, 2), *rest, nn.Conv2d(256, 256, 3, padding=1), nn.ReLU()]


def _vgg() -> list[nn.Module]:
    layers: list[nn.Module] = []
    inputs = 3
    for outputs in _VGG:
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()] if outputs else [nn.MaxPool2d(2, 2)]
        inputs = outputs or inputs
    return layers


class _Fire(nn.Module):
    """Squeeze to few channels, expand by kernels of 1 and of 3 (Iandola et al. 2016)."""

    def __init__(self, inputs: int, squeezed: int, expanded: int):
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze(x).relu()
        return torch.cat([self.expand1x1(x).relu(), self.expand3x3(x).relu()], 1)


def _squeeze() -> list[nn.Module]:
    def halve() -> nn.Module:
        return nn.MaxPool2d(3, 2, ceil_mode=True)

    layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, 2), nn.ReLU(), halve(), _Fire(64, 16, 64), _Fire(128, 16, 64)]
    layers += [halve(), _Fire(128, 32, 128), _Fire(256, 32, 128), halve(), _Fire(256, 48, 192), _Fire(384, 48, 192)]
    return [*layers, _Fire(384, 64, 256), _Fire(512, 64, 256)]
