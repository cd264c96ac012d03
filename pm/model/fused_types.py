"""DoRA and LoKr in a U-Net's matrices for inference: what `pm.model.fused` does for LoRA, whatever the file holds."""

import copy
from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from pm.errors import CheckpointError
from pm.model.fused import FusedLora, Own, UnetChange
from pm.model.lora import adapter_type, layers_of
from pm.model.loras.parts import change_of
from pm.model.loras.scale import Scales


class FusedFactors(UnetChange):
    """One adapter's DoRA or LoKr."""

    def __init__(self, unet: nn.Module, prefix: str, state: Mapping[str, Tensor]) -> None:
        """`prefix`, `state`: as in `pm.model.lora.lora_parameters`.

        Raises:
            CheckpointError: a layer is not the U-Net's, or of another shape.
        """
        self.strength, self.kind = 1.0, adapter_type(state)
        self.layers = sorted(layers_of(state))
        self.state = {name.removeprefix(prefix): value.float() for name, value in state.items()}
        linear = {name: module for name, module in unet.named_modules() if isinstance(module, nn.Linear)}
        for layer in self.layers:
            if layer not in linear:
                raise CheckpointError(
                    f"{layer} is no linear layer of this U-Net; use the base the adapter was made for"
                )
            module = linear[layer]
            shape = (module.out_features, module.in_features)
            try:
                fits = self.delta(layer, shape).shape == shape
            except (RuntimeError, KeyError) as error:
                raise CheckpointError(f"{layer}: {error}; use the base the adapter was trained with") from error
            if not fits:
                raise CheckpointError(f"{layer} has another shape; use the base the adapter was trained with")

    def delta(self, layer: str, shape: tuple[int, int]) -> Tensor:
        """B A or w1 ⊗ w2, [out, in] float32 on the CPU."""
        parts = {
            n[len(layer) + 1 :].removesuffix(".weight"): v for n, v in self.state.items() if n.startswith(f"{layer}.")
        }
        parts.pop("lora_magnitude_vector", None)
        return change_of(parts, shape, Scales()).delta()

    def scaled(self, strength: float) -> "FusedFactors":
        """The same with another strength, 1 as it was trained: of the way from the base's own matrices."""
        if strength == self.strength:
            return self
        other = copy.copy(self)
        other.strength, other.fused = strength, None
        return other

    @property
    def names(self) -> Collection[str]:
        return [f"{layer}.weight" for layer in self.layers]

    def weights(self, own: Own) -> dict[str, Tensor]:
        return {f"{layer}.weight": self._fused(own(f"{layer}.weight"), layer) for layer in self.layers}

    def _fused(self, own: Tensor, layer: str) -> Tensor:
        # In float32, then rounded once.
        before = own.float()
        after = before + self.delta(layer, (own.shape[0], own.shape[1])).to(own.device)
        length = self.state.get(f"{layer}.lora_magnitude_vector")
        if length is not None:
            after = after * (length.to(own.device) / after.norm(dim=1)).unsqueeze(1)
        return torch.lerp(before, after, self.strength).to(own.dtype)


def fused_of(unet: nn.Module, prefix: str, state: Mapping[str, Tensor]) -> UnetChange:
    """What an adapter's file changes in the U-Net.

    Raises:
        CheckpointError: it does not fit.
    """
    kind = FusedLora if adapter_type(state) == "lora" else FusedFactors
    return kind(unet, prefix, state)
