"""Perceptual distances: how far apart the layers of a network are for two pictures (Zhang et al. 2018).

`load_lpips` is LPIPS: channels weighted as people judged pairs of pictures. `load_squeezenet` is a stand-in that needs
no download: all channels count alike, as in what LPIPS's authors call the baseline, and the sum is scaled to 0..1. It
is 1 - cosine, averaged over places and layers.
"""

import functools
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from pm.evaluate.metrics.base import Model
from pm.evaluate.models.backbones import Backbone
from pm.evaluate.models.features import pillow
from pm.evaluate.models.files import fill, model_of, read_weights, shipped, short_name, weight_file
from pm.model.images import to_uint8

_CHUNK = 8  # pictures at once: a layer of VGG-16 has 13 MB for each, at 224 px
_SQUEEZENET, _LINEAR = "squeezenet1_1.safetensors", "lpips_linear.safetensors"
# Mean and standard deviation of LPIPS, RGB, of pixels in -1..1.
_MEAN, _STD = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
_CAFFE_MEAN = (104.0, 117.0, 123.0)  # BGR, of pixels in 0..255: what the shipped SqueezeNet was trained with


class Perceptual(nn.Module):
    """Distances between every picture of one list and every one of another."""

    def __init__(self, backbone: Backbone, prepare: Callable[[Tensor], Tensor], weights: Sequence[Tensor] | None):
        """
        Args:
            backbone: compares layers of it.
            prepare: uint8 [B, 3, S, S] → what the backbone takes.
            weights: of the channels of each layer, [C] each; None: all alike, so that the distance is at most 1.
        """
        super().__init__()
        self.backbone, self.prepare = backbone, prepare
        self.weights = weights

    @torch.no_grad()
    def forward(self, some: Tensor, others: Tensor) -> Tensor:
        """uint8 [n, 3, S, S] and [m, 3, S, S] → [n, m], 0 for the same picture."""
        rows = []
        for part in some.split(_CHUNK):
            mine, columns = self.layers(part), []
            for batch in others.split(_CHUNK):
                theirs = mine if torch.equal(batch, part) else self.layers(batch)
                columns += [self._against(mine, [layer[i : i + 1] for layer in theirs]) for i in range(len(batch))]
            rows.append(torch.stack(columns, 1))
        return torch.cat(rows)

    def layers(self, pixels: Tensor) -> list[Tensor]:
        """The compared layers, at each place of unit length over the channels."""
        found = self.backbone(self.prepare(pixels))
        return [layer / (layer.square().sum(1, keepdim=True).sqrt() + 1e-10) for layer in found]

    def _against(self, some: list[Tensor], other: list[Tensor]) -> Tensor:
        """Layers of n pictures and of one → [n]."""
        total = some[0].new_zeros(len(some[0]))
        for i, (a, b) in enumerate(zip(some, other, strict=True)):
            weight = 0.5 / len(some) if self.weights is None else self.weights[i]
            total = total + ((a - b).square().mean((2, 3)) * weight).sum(1)
        return total


class Distances:
    """images, uint8 [H, W, 3] of any sizes → distances float32 [n, m]."""

    def __init__(self, network: Perceptual, side: int, device: str):
        """
        Args:
            network: the measure.
            side: px, of the square that pictures are scaled and cut to.
            device: where the network is.
        """
        self._network, self._side, self._device = network, side, device

    def __call__(self, some: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> np.ndarray:
        if not len(some) or not len(others):
            return np.empty((len(some), len(others)), np.float32)
        return self._network(self._pixels(some), self._pixels(others)).cpu().numpy()

    def _pixels(self, images: Sequence[np.ndarray]) -> Tensor:
        return to_uint8([pillow(image) for image in images], self._side).to(self._device)


@functools.lru_cache(maxsize=4)
def load_lpips(net: str, path: str, side: int, device: str) -> tuple[Distances, Model]:
    """LPIPS version 0.1.

    Args:
        net: "alex", "vgg" or "squeeze".
        path: the network's weights, trained on ImageNet: a file, folder or Hub id.
        side: px.
        device: where it runs.

    Raises:
        CheckpointError: the weights cannot be had.
    """
    file, linear = weight_file(path), shipped(_LINEAR)
    backbone = fill(Backbone(net), read_weights(file), f"path={path}")
    learned = read_weights(linear)
    weights = [learned[f"{net}.{i}"].to(device) for i in range(len(Backbone(net).taps))]
    name = f"LPIPS 0.1 {net} ({short_name(path)})"
    return Distances(Perceptual(backbone.to(device), _lpips_pixels, weights), side, device), model_of(
        name, file, linear
    )


@functools.lru_cache(maxsize=4)
def load_squeezenet(side: int, device: str) -> tuple[Distances, Model]:
    """The shipped SqueezeNet 1.1, all channels alike."""
    file = shipped(_SQUEEZENET)
    weights = {name: value.float() for name, value in read_weights(file).items()}
    backbone = fill(Backbone("squeeze"), weights, str(file)).to(device)
    return Distances(Perceptual(backbone, _caffe_pixels, None), side, device), model_of("SqueezeNet 1.1", file)


def _lpips_pixels(pixels: Tensor) -> Tensor:
    values = pixels.float() / 127.5 - 1
    mean, std = (values.new_tensor(v).view(1, 3, 1, 1) for v in (_MEAN, _STD))
    return (values - mean) / std


def _caffe_pixels(pixels: Tensor) -> Tensor:
    values = pixels.float().flip(1)
    return values - values.new_tensor(_CAFFE_MEAN).view(1, 3, 1, 1)
