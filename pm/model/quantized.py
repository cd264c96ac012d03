"""A U-Net whose linear layers hold their weights in 8 bits, and adapters on it.

torchao keeps each weight as int8 or float8 with a scale for each output channel, and multiplies with what they stand
for. A quarter of float32, half of bfloat16; the arithmetic stays that of the activations. The dynamic kinds bring the
activations to 8 bits as well, with a scale for each token, and multiply 8 bits by 8 bits: for speed, where the device
has such units and the U-Net is compiled.

An adapter's difference cannot be added to such a weight: the weight lies on the grid of its scale, and what is smaller
than half a step would be rounded away, which is most of a LoRA. So the low-rank matrices act beside it, unrounded:
y = Q(W) x + B A x. That also switches adapters without a copy of any matrix.
"""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from pm.errors import CheckpointError, ConfigError, install_hint, reason
from pm.model.base import BaseModel, load_base, move_base
from pm.model.compiled import recompiled
from pm.model.fused import BUDGET, FusedLora, LoraSwitch, ReplacedUnet, UnetChange

Quantize = Literal["int8", "fp8", "int8_dynamic", "fp8_dynamic"]
_KINDS: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()  # of U-Nets that are in 8 bits


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
        kind: "int8", or "fp8" (e4m3), both with one scale for each output channel; "_dynamic": activations, too.

    Raises:
        ConfigError: torchao is not installed, or has no such format for this machine.
    """
    quantize = _quantizer(kind)
    _KINDS[unet] = kind
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

    def __init__(self, unet: nn.Module, budget: int = BUDGET) -> None:
        super().__init__(unet, budget)
        self._beside: dict[str, _LowRank] = {}  # by layer; they stay, and are zero for the base alone
        self._modules: dict[str, nn.Parameter] = {}  # the base's parameters that some adapter has replaced

    def prepare(self, change: UnetChange | None) -> None:
        if change is not None and change.fused is None and self.before is None:
            change.fused = self._made(change)
            with self._lock:
                self._note(change)

    def use(self, change: UnetChange | None) -> None:
        if change is self.active:
            return
        with self._lock:
            if self.before is not None:
                self.before()
            self._restore()
            if change is not None:
                if change.fused is None:
                    change.fused = self._made(change)
                if isinstance(change, FusedLora):
                    self._act_beside(change, change.fused)
                else:
                    self._replace(change.fused)
                self._note(change)
            self.active = change

    def _made(self, change: UnetChange) -> dict[str, Tensor]:
        if isinstance(change, FusedLora):
            first: Any = next(self.unet.parameters())
            scales = {name: change.strength if ".lora_B." in name else 1.0 for name in change.state}
            return {name: (scales[name] * v).to(first.device, first.dtype) for name, v in change.state.items()}
        if not isinstance(change, ReplacedUnet):
            raise CheckpointError(
                f"quantize= cannot be used with this adapter ({type(change).__name__} changes weights as they are); "
                "leave it out"
            )
        made = {}  # each weight in the form of the base's own: 8 bits where that is in 8 bits
        for name, parameter in self.unet.named_parameters():
            own = self._modules.get(name, parameter)
            made[name] = self._like(
                own, torch.empty(own.shape, dtype=own.dtype, device=own.device).copy_(change.state[name])
            )
        return made

    def _like(self, own: Tensor, plain: Tensor) -> Tensor:
        if not _in_8_bits(own):
            return plain
        holder = nn.Linear(plain.shape[1], plain.shape[0], bias=False, device="meta")
        holder.weight = nn.Parameter(plain, requires_grad=False)
        _quantizer(_KINDS[self.unet])(holder)
        return holder.weight.data

    def _act_beside(self, change: FusedLora, fused: dict[str, Tensor]) -> None:
        for layer in change.layers:
            a, b = (fused[f"{layer}.lora_{which}.weight"] for which in "AB")
            known = self._beside.get(layer)
            if known is None or not known.fits(a, b):
                if known is not None:
                    known.handle.remove()
                self._beside[layer] = _LowRank(self.unet.get_submodule(layer), a, b)
                recompiled(self.unet)  # compiled code does not know of hooks that came after it
            self._beside[layer].put(a, b)

    def _replace(self, fused: dict[str, Tensor]) -> None:
        for name, weight in fused.items():
            self._modules.setdefault(name, self.unet.get_parameter(name))
            _set(self.unet, name, nn.Parameter(weight, requires_grad=False))

    def _restore(self) -> None:
        for each in self._beside.values():
            each.clear()
        for name, parameter in self._modules.items():
            _set(self.unet, name, parameter)
        self._modules, self.active = {}, None


class _LowRank:
    """B A x beside a layer, in tensors that stay where they are: for adapters up to their rank."""

    def __init__(self, layer: nn.Module, a: Tensor, b: Tensor) -> None:
        self.a, self.b = torch.zeros_like(a), torch.zeros_like(b)
        self.acts = False
        self.handle: RemovableHandle = layer.register_forward_hook(self._add)

    def fits(self, a: Tensor, b: Tensor) -> bool:
        here, there = (self.a.device, self.a.dtype), (a.device, a.dtype)
        return here == there and a.shape[0] <= self.a.shape[0]

    def put(self, a: Tensor, b: Tensor) -> None:
        if a.shape[0] < self.a.shape[0]:
            self.clear()
        self.a[: a.shape[0]].copy_(a)
        self.b[:, : b.shape[1]].copy_(b)
        self.acts = True

    def clear(self) -> None:
        self.b.zero_()
        self.acts = False

    def _add(self, module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if not (self.acts or torch.compiler.is_compiling()):
            return output
        return output + F.linear(F.linear(inputs[0], self.a), self.b)


def _data(parameter: Tensor) -> Tensor:
    return parameter.data if isinstance(parameter, nn.Parameter) else parameter


def _in_8_bits(parameter: Tensor) -> bool:
    return type(_data(parameter)).__module__.startswith("torchao.")


def _set(root: nn.Module, name: str, parameter: nn.Parameter) -> None:
    owner, _, last = name.rpartition(".")
    setattr(root.get_submodule(owner), last, parameter)


def _quantizer(kind: str) -> Callable[[nn.Module], None]:
    """Quantises one linear layer in place."""
    configs: Mapping[str, str] = {
        "int8": "Int8WeightOnlyConfig",
        "fp8": "Float8WeightOnlyConfig",
        "int8_dynamic": "Int8DynamicActivationInt8WeightConfig",
        "fp8_dynamic": "Float8DynamicActivationFloat8WeightConfig",
    }
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

    def quantize(layer: nn.Module) -> None:
        try:
            torchao.quantize_(layer, config)
        except AssertionError as error:  # what the machine must have
            raise ConfigError(f"quantize={kind} cannot be used here: {reason(error)}; use int8 or fp8") from error

    return quantize
