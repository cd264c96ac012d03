"""A U-Net whose linear layers hold their weights in 8 bits, and adapters on it.

torchao keeps each weight as int8 or float8 with a scale for each output channel, and multiplies with what they stand
for. A quarter of float32, half of bfloat16; the arithmetic stays that of the activations.

An adapter's difference cannot be added to such a weight: the weight lies on the grid of its scale, and what is smaller
than half a step would be rounded away, which is most of a LoRA. So the low-rank matrices act beside it, unrounded:
y = Q(W) x + B A x. That also switches adapters without a copy of any matrix.
"""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from pm.errors import CheckpointError, ConfigError, install_hint
from pm.model.base import BaseModel, load_base, move_base
from pm.model.fused import FusedLora, LoraSwitch, ReplacedUnet, UnetChange

Quantize = Literal["int8", "fp8"]


def load_for_sampling(
    path: str | Path, kind: Quantize | None, *, device: str | torch.device, dtype: torch.dtype, **options: Any
) -> BaseModel:
    """A whole base as it is sampled with: channels last, the U-Net in 8 bits if `kind` says so.

    Args:
        path: of `load_base`.
        device: likewise.
        dtype: likewise.
        options: likewise.
        kind: of `quantize_unet`; None: weights in `dtype`.

    Raises:
        ConfigError: as `quantize_unet`, before anything is loaded.
        CheckpointError: as `load_base`.
    """
    if kind is not None:
        _quantizer(kind)
    first = device if kind is None else "cpu"  # so that the device never holds the whole U-Net
    loaded = load_base(path, device=first, dtype=dtype, **options)
    for module in (loaded.unet, loaded.vae):
        module.to(memory_format=torch.channels_last)
    if kind is not None:
        quantize_unet(loaded.unet, kind)
        move_base(loaded, device, dtype)
    return loaded


def quantize_unet(unet: nn.Module, kind: Quantize) -> None:
    """Replace the weights of a U-Net's linear layers, in place; convolutions and norms stay as they are.

    Args:
        unet: frozen, in the dtype that it will compute in.
        kind: "int8", or "fp8" (e4m3), both with one scale for each output channel.

    Raises:
        ConfigError: torchao is not installed, or has no such format.
    """
    quantize = _quantizer(kind)
    for module in unet.modules():
        if isinstance(module, nn.Linear):
            quantize(module)


def is_quantized(unet: nn.Module) -> bool:
    """Whether `quantize_unet` was there."""
    return any(_in_8_bits(parameter) for parameter in unet.parameters())


def switch_for(unet: nn.Module) -> LoraSwitch:
    """What puts adapters into this U-Net."""
    return QuantizedSwitch(unet) if is_quantized(unet) else LoraSwitch(unet)


class QuantizedSwitch(LoraSwitch):
    """Lets adapters act beside 8-bit weights, or replaces those that an adapter brings whole."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__(unet)
        self._handles: list[RemovableHandle] = []
        self._modules: dict[str, nn.Parameter] = {}  # the base's parameters that some adapter has replaced

    def use(self, change: UnetChange | None) -> None:
        if change is self.active:
            return
        if self.before is not None:
            self.before()
        self._restore()
        if isinstance(change, FusedLora):
            self._beside(change)
        elif isinstance(change, ReplacedUnet):
            self._replace(change)
        elif change is not None:
            raise CheckpointError(
                f"quantize= cannot be used with this adapter ({type(change).__name__} changes weights as they are); "
                "leave it out"
            )
        self.active = change

    def _beside(self, change: FusedLora) -> None:
        if change.fused is None:
            first: Any = next(self.unet.parameters())
            place = {"device": first.device, "dtype": first.dtype}
            scales = {name: change.strength if ".lora_B." in name else 1.0 for name in change.state}
            change.fused = {name: (scales[name] * value).to(**place) for name, value in change.state.items()}
        for layer in change.layers:
            a, b = (change.fused[f"{layer}.lora_{which}.weight"] for which in "AB")
            self._handles.append(self.unet.get_submodule(layer).register_forward_hook(_adding(a, b)))

    def _replace(self, change: ReplacedUnet) -> None:
        """Each weight in the form of the base's own: 8 bits where that is in 8 bits."""
        if change.fused is None:
            change.fused = {}
            for name, own in self.unet.named_parameters():
                plain = torch.empty(own.shape, dtype=own.dtype, device=own.device).copy_(change.state[name])
                change.fused[name] = _like(own, plain)
        for name, weight in change.fused.items():
            self._modules.setdefault(name, self.unet.get_parameter(name))
            _set(self.unet, name, nn.Parameter(weight, requires_grad=False))

    def _restore(self) -> None:
        for handle in self._handles:
            handle.remove()
        for name, parameter in self._modules.items():
            _set(self.unet, name, parameter)
        self._handles, self._modules, self.active = [], {}, None


def _adding(a: Tensor, b: Tensor) -> Callable[[Any, tuple[Tensor, ...], Tensor], Tensor]:
    """A hook that adds B A x to what a layer makes of x."""

    def hook(module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return output + F.linear(F.linear(inputs[0], a), b)

    return hook


def _like(own: Tensor, plain: Tensor) -> Tensor:
    if not _in_8_bits(own):
        return plain
    holder = nn.Linear(plain.shape[1], plain.shape[0], bias=False, device="meta")
    holder.weight = nn.Parameter(plain, requires_grad=False)
    _quantizer("int8" if "Int8" in type(_data(own)).__name__ else "fp8")(holder)
    return holder.weight.data


def _data(parameter: Tensor) -> Tensor:
    return parameter.data if isinstance(parameter, nn.Parameter) else parameter


def _in_8_bits(parameter: Tensor) -> bool:
    return type(_data(parameter)).__module__.startswith("torchao.")


def _set(root: nn.Module, name: str, parameter: nn.Parameter) -> None:
    owner, _, last = name.rpartition(".")
    setattr(root.get_submodule(owner), last, parameter)


def _quantizer(kind: str) -> Callable[[nn.Module], None]:
    """Quantises one linear layer in place."""
    configs: Mapping[str, str] = {"int8": "Int8WeightOnlyConfig", "fp8": "Float8WeightOnlyConfig"}
    if kind not in configs:
        raise ConfigError(f"quantize={kind!r} is not one of {', '.join(configs)}")
    # It tells of every kernel that it was not built with, which concerns none of these formats.
    noisy = logging.getLogger("torchao")
    level = noisy.level
    noisy.setLevel(logging.ERROR)
    try:
        import torchao.quantization as torchao
    except ImportError as error:
        raise ConfigError(f"quantize={kind} needs torchao ({error}): {install_hint('quantize')}") from error
    finally:
        noisy.setLevel(level)
    config = getattr(torchao, configs[kind])()
    return lambda layer: torchao.quantize_(layer, config)
