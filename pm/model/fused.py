"""LoRA added into the U-Net's matrices for inference, and switched by swapping them: several adapters on one base.

A fused U-Net is as fast as the plain one. Each adapter keeps its own copy of the matrices it changes, so switching
copies nothing, adding up rounding errors is impossible, and the base alone stays at hand.
"""

import copy
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from pm.errors import CheckpointError
from pm.model.lora import layers_of, lora_shape


class UnetChange:
    """What one adapter changes in a U-Net; its matrices are made when it is first used."""

    fused: dict[str, Tensor] | None = None  # instead of the U-Net's own, by parameter name

    def weights(self, unet: nn.Module) -> dict[str, Tensor]:
        """The matrices, made from those of a U-Net that is as it was loaded, in its dtype and on its device."""
        raise NotImplementedError


class FusedLora(UnetChange):
    """One adapter's LoRA."""

    def __init__(self, unet: nn.Module, prefix: str, state: Mapping[str, Tensor]) -> None:
        """`prefix`, `state`: as in `pm.model.lora.lora_parameters`.

        Raises:
            CheckpointError: a matrix is missing, left over, not linear, or of another shape than the U-Net's.
        """
        self.strength = 1.0
        self.state = {name.removeprefix(prefix): value.float() for name, value in state.items()}
        self.layers = _checked_layers(unet, prefix, state)

    def delta(self, layer: str) -> Tensor:
        """s B A, [out, in] float32 on the CPU (alpha = rank, so that is no further scale)."""
        return self.strength * (self.state[f"{layer}.lora_B.weight"] @ self.state[f"{layer}.lora_A.weight"])

    def scaled(self, strength: float) -> "FusedLora":
        """The same with another strength, 1 as it was trained; itself where it has that already."""
        if strength == self.strength:
            return self
        other = copy.copy(self)
        other.strength, other.fused = strength, None
        return other

    def weights(self, unet: nn.Module) -> dict[str, Tensor]:
        return {f"{layer}.weight": self._fuse(unet, layer) for layer in self.layers}

    def _fuse(self, unet: nn.Module, layer: str) -> Tensor:
        # Added in float32, then rounded once: in bfloat16 that loses less than the arithmetic itself does.
        own = unet.get_parameter(f"{layer}.weight").data
        return (own.float() + self.delta(layer).to(own.device)).to(own.dtype)


class ReplacedUnet(UnetChange):
    """A U-Net of the adapter's own: every weight of it."""

    def __init__(self, unet: nn.Module, state: Mapping[str, Tensor]) -> None:
        """`state`: by the U-Net's own names.

        Raises:
            CheckpointError: a weight is missing, left over, or of another shape than the U-Net's.
        """
        own = dict(unet.named_parameters())
        missing, unexpected = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
        if missing or unexpected:
            raise CheckpointError(
                f"the adapter's U-Net is not that of this base: {len(missing)} weights missing (e.g. {missing[:1]}), "
                f"{len(unexpected)} left over (e.g. {unexpected[:1]}); use the base it was trained with"
            )
        wrong = next((name for name, value in own.items() if value.shape != state[name].shape), None)
        if wrong is not None:
            raise CheckpointError(
                f"the adapter's U-Net has another shape in {wrong} ({tuple(state[wrong].shape)}, here "
                f"{tuple(own[wrong].shape)}); use the base it was trained with"
            )
        self.state = dict(state)

    def weights(self, unet: nn.Module) -> dict[str, Tensor]:
        # In the memory format of the U-Net's own.
        return {name: torch.empty_like(p.data).copy_(self.state[name]) for name, p in unet.named_parameters()}


class LoraSwitch:
    """Puts the matrices of one adapter, or the base's own, into a U-Net."""

    def __init__(self, unet: nn.Module) -> None:
        self.unet = unet
        self.active: UnetChange | None = None
        self.before: Callable[[], None] | None = None  # called before matrices are exchanged
        self._own: dict[str, Tensor] = {}  # the base's matrices that some adapter has replaced

    def use(self, change: UnetChange | None) -> None:
        """Let the U-Net compute with this adapter; None: the base alone."""
        if change is self.active:
            return
        if self.before is not None:
            self.before()
        self._restore()
        if change is not None:
            if change.fused is None:
                change.fused = change.weights(self.unet)
            for name, weight in change.fused.items():
                own = self.unet.get_parameter(name)
                self._own.setdefault(name, own.data)
                own.data = weight
        self.active = change

    def _restore(self) -> None:
        for name, weight in self._own.items():
            self.unet.get_parameter(name).data = weight
        self._own, self.active = {}, None


def _checked_layers(unet: nn.Module, prefix: str, state: Mapping[str, Tensor]) -> list[str]:
    """Names of the U-Net's layers that this LoRA changes, all of them and no other."""
    odd = next((name for name in state if not name.startswith(prefix)), None)
    if odd is not None:
        raise CheckpointError(f"{odd} is not a LoRA weight of {prefix}*; use the base the adapter was trained with")
    layers, (rank, targets) = layers_of(state), lora_shape(state)
    own = {name for name, _ in unet.named_modules() if name.endswith(tuple(f".{target}" for target in targets))}
    missing, unexpected = sorted(own - layers), sorted(layers - own)
    if missing or unexpected or len(state) != 2 * len(layers):
        raise CheckpointError(
            f"LoRA does not fit this U-Net: {len(missing)} layers missing (e.g. {missing[:1]}), "
            f"{len(unexpected)} left over (e.g. {unexpected[:1]}); use the base and the targets it was trained with"
        )
    for layer in layers:
        module = unet.get_submodule(layer)
        if not isinstance(module, nn.Linear):
            raise CheckpointError(f"LoRA on {layer} ({type(module).__name__}) is not supported; only linear layers are")
        a, b = (tuple(state[f"{prefix}{layer}.lora_{which}.weight"].shape) for which in "AB")
        if (a, b) != ((rank, module.in_features), (module.out_features, rank)):
            raise CheckpointError(
                f"{layer} has another shape ({b} x {a} in the file, {tuple(module.weight.shape)} here); "
                "use the base it was trained with"
            )
    return sorted(layers)
