"""LoRA on the U-Net's attention matrices, and its state dict in the form diffusers writes."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from pm.errors import CheckpointError, ConfigError
from pm.model.config import FUSED, LoraImpl, LoraType, check_lora
from pm.model.lora_linear import ADAPTER_NAME, LoraLinear, wrap_linears
from pm.model.lora_types import DoraLinear, LokrLinear

# What a layer's adapter is made of: LoRA; DoRA's lengths beside it; LoKr. In files LoRA's have ".weight" behind them.
_PARTS = "lora_A|lora_B|lora_magnitude_vector|lokr_w1|lokr_w2|lokr_w2_a|lokr_w2_b"
_INSIDE = re.compile(rf"^(?P<layer>.+)\.(?P<what>{_PARTS})\.{ADAPTER_NAME}(?:\.weight)?$")
# The part that carries the LoRA (`Family.denoiser`), then the layer.
_NEW = re.compile(rf"^(?:unet|transformer)\.(?P<layer>.+)\.(?P<what>{_PARTS})(?P<weight>\.weight)?$")
# How diffusers wrote them before PEFT: `attn1.processor.to_q_lora.down.weight`, `attn1.to_q.lora.down.weight`.
_OLD = re.compile(
    r"^unet\.(?P<path>.+?)(?:\.processor)?\.(?P<name>to_[qkv]|to_out)(?:\.0)?[._]lora\.(?P<which>down|up)\.weight$"
)
_ALPHA = re.compile(r"^unet\.(?P<path>.+?)(?:\.processor)?\.(?P<name>to_[qkv]|to_out)(?:\.0)?(?:_lora)?\.alpha$")


def add_lora(unet: Any, rank: int, targets: tuple[str, ...], impl: LoraImpl = FUSED, kind: LoraType = "lora") -> None:
    """Put LoRA matrices beside the named attention matrices; A is Gaussian, B zero, so nothing changes at first.

    alpha = rank, so the scale is 1 and loaders need no extra number. Everything else in the U-Net is frozen.

    Args:
        unet: changed in place.
        rank: of the matrices.
        targets: names of the layers that get them.
        impl: "fused": `LoraLinear`; "peft": PEFT's layers. Both have the same parameters by the same names.
        kind: LoRA, or what stands in its place (`pm.model.lora_types`), by layers of our own only.

    Raises:
        CheckpointError: this U-Net already carries an adapter.
        ConfigError: a target names none of its matrices, or layers that are not linear.
    """
    if ADAPTER_NAME in getattr(unet, "peft_config", {}) or any(
        isinstance(m, LoraLinear | LokrLinear) for m in unet.modules()
    ):
        raise CheckpointError("this base already carries an adapter; load the base again for another one")
    for target in targets:
        if not any(name.endswith(f".{target}") for name, _ in unet.named_modules()):
            raise ConfigError(f"LoRA target {target!r} names no matrix of this U-Net; use to_q, to_k, to_v, to_out.0")
    check_lora(kind, impl)
    unet.requires_grad_(False)
    if impl == FUSED:
        odd = wrap_linears(unet, rank, targets, {"lora": LoraLinear, "dora": DoraLinear, "lokr": LokrLinear}[kind])
        if odd:
            raise ConfigError(
                f"LoRA targets {', '.join(targets)} name {odd[0]}, which is no linear layer; name linear layers only, "
                "or use adapter.lora_impl=peft"
            )
    else:
        from peft import LoraConfig

        config = LoraConfig(r=rank, lora_alpha=rank, init_lora_weights="gaussian", target_modules=list(targets))
        unet.add_adapter(config, adapter_name=ADAPTER_NAME)
    for name, parameter in unet.named_parameters():
        parameter.requires_grad_(_INSIDE.match(name) is not None)


@contextmanager
def lora_off(unet: nn.Module) -> Iterator[None]:
    """Inside, the U-Net computes what it did before `add_lora`; the matrices stay as they are, and trainable."""
    found = (getattr(module, "scaling", None) for module in unet.modules())
    scalings = [scaling for scaling in found if isinstance(scaling, dict) and ADAPTER_NAME in scaling]
    before = [dict(scaling) for scaling in scalings]
    for scaling in scalings:
        scaling.update(dict.fromkeys(scaling, 0.0))
    try:
        yield
    finally:
        for scaling, known in zip(scalings, before, strict=True):
            scaling.update(known)


def lora_parameters(unet: nn.Module, prefix: str) -> dict[str, nn.Parameter]:
    """The LoRA matrices by their name in the adapter file, `<prefix><layer>.lora_A.weight` (prefix: "unet.")."""
    found = ((_INSIDE.match(name), parameter) for name, parameter in unet.named_parameters())
    ends = {"lora_A": ".weight", "lora_B": ".weight"}
    return {f"{prefix}{m['layer']}.{m['what']}{ends.get(m['what'], '')}": p for m, p in found if m}


def load_lora(unet: nn.Module, prefix: str, state: Mapping[str, Tensor]) -> None:
    """Copy a state dict in the form of `lora_parameters` into the U-Net, strictly.

    Raises:
        CheckpointError: a matrix is missing, left over, or of another shape.
    """
    own = lora_parameters(unet, prefix)
    missing, unexpected = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    if missing or unexpected:
        raise CheckpointError(
            f"LoRA does not fit this U-Net: {len(missing)} missing (e.g. {missing[:1]}), "
            f"{len(unexpected)} left over (e.g. {unexpected[:1]}); use the base and the targets it was trained with"
        )
    with torch.no_grad():
        for name, parameter in own.items():
            if parameter.shape != state[name].shape:
                shapes = f"{tuple(state[name].shape)} in the file, {tuple(parameter.shape)} here"
                raise CheckpointError(
                    f"{name} has another shape ({shapes}); use the base and the rank it was trained with"
                )
            parameter.copy_(state[name])


def normalise_lora(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Bring LoRA weights of any diffusers version into the form `unet.<layer>.lora_A.weight`, with a scale of 1.

    Raises:
        CheckpointError: a key that is not LoRA on a U-Net's attention.
    """
    result: dict[str, Tensor] = {}
    alphas: dict[str, float] = {}
    for key, value in state.items():
        if match := _NEW.match(key):
            lengths = match["what"] == "lora_magnitude_vector"  # with and without ".weight" in files of others
            result[key.removesuffix(".weight") if lengths else key] = value
        elif match := _OLD.match(key):
            which = {"down": "A", "up": "B"}[match["which"]]
            result[f"unet.{_layer(match)}.lora_{which}.weight"] = value
        elif match := _ALPHA.match(key):
            alphas[_layer(match)] = float(value)
        else:
            raise CheckpointError(f"{key} is not a LoRA weight of a U-Net's attention; is this a PhotoMaker adapter?")
    for layer, alpha in alphas.items():
        up = f"unet.{layer}.lora_B.weight"
        result[up] = result[up] * (alpha / result[up].shape[1])
    return result


def lora_shape(state: Mapping[str, Tensor]) -> tuple[int, tuple[str, ...]]:
    """Rank and target names of a state dict in the form of `lora_parameters`."""
    ranks = {value.shape[0] for key, value in state.items() if key.endswith(("lora_A.weight", "lokr_w2_b"))}
    if adapter_type(state) == "lokr" and not ranks:  # both factors are whole
        ranks = {1}
    if len(ranks) != 1:
        raise CheckpointError(f"adapter has LoRA ranks {sorted(ranks)}; exactly one is supported")
    names = {re.sub(r"^.*\.attn\d*\.", "", layer) for layer in layers_of(state)}
    return ranks.pop(), tuple(sorted(names))


def adapter_type(state: Mapping[str, Tensor]) -> LoraType:
    """Which of them a state dict in the form of `lora_parameters` holds."""
    parts = {match["what"] for match in map(_NEW.match, state) if match}
    if any(part.startswith("lokr_") for part in parts):
        return "lokr"
    return "dora" if "lora_magnitude_vector" in parts else "lora"


def layers_of(state: Mapping[str, Tensor]) -> set[str]:
    """Names of the U-Net's layers in a state dict in the form of `lora_parameters`."""
    return {match["layer"] for match in map(_NEW.match, state) if match}


def _layer(match: re.Match[str]) -> str:
    return f"{match['path']}.to_out.0" if match["name"] == "to_out" else f"{match['path']}.{match['name']}"
