"""LoRA files as they are shared: diffusers, PEFT, kohya and LyCORIS, on the layers of a base.

What a file is, its keys tell. Every layer that it names must be in the base: a LoRA for another one would change a few
layers and look like a weak one.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from pm.errors import CheckpointError, counted
from pm.model.loras.change import Change
from pm.model.loras.layers import BaseLayers, Layer
from pm.model.loras.parts import BESIDE, NAMES, change_of
from pm.model.loras.scale import PeftSettings, settings_of
from pm.weights import check_weights

_OURS = "|".join(name for names in NAMES[1:] for name in names) + "|" + "|".join(BESIDE[:2])
_KEYS = (
    (re.compile(r"^(?P<layer>.+)\.lora_(?P<what>A|B|down|up|mid)(?:\.(?!bias)\w+)?\.weight$"), ""),
    (re.compile(r"^(?P<layer>.+?)[._](?:lora|lora_linear_layer)\.(?P<what>down|up)\.weight$"), ""),
    (re.compile(rf"^(?P<layer>.+?)(?:[._]lora)?\.(?P<what>{_OURS})(?:\.default)?(?:\.weight)?$"), ""),
    (re.compile(r"^(?P<layer>.+)\.(?:diff_b|lora_B(?:\.\w+)?\.bias)$"), "bias"),
)
_CANONICAL = {"A": "lora_A", "down": "lora_A", "B": "lora_B", "up": "lora_B"}
# Ends of keys of methods that are not sums: (pattern, what it is).
_OTHER_METHODS = (
    (re.compile(r"\.(?:dora_scale|lora_magnitude_vector)(?:\.\w+)*$"), "DoRA, which scales the base's own columns"),
    (re.compile(r"\.(?:oft_blocks|oft_diag|oft_r|boft_\w+)(?:\.\w+)*$"), "OFT, which turns the base's weights"),
    (re.compile(r"\.(?:on_input|ia3_l)(?:\.\w+)*$"), "(IA)3, which scales activations"),
    (re.compile(r"\.[ab][12]\.weight$"), "GLoRA"),
    (re.compile(r"\.(?:w_norm|b_norm)$"), "LyCORIS with trained norms"),
)
# Beginnings of keys of files that are something else.
_OTHER_FILES = (
    (("id_encoder.", "lora_weights."), "a PhotoMaker adapter; give it as the adapter"),
    (("image_proj.", "ip_adapter."), "an IP-Adapter; give it as the adapter"),
    (("emb_params", "clip_l", "clip_g", "string_to_param"), "a learned word (textual inversion)"),
    (("controlnet_cond_embedding", "control_model.", "controlnet_"), "a ControlNet"),
    (("model.diffusion_model.", "first_stage_model.", "cond_stage_model.", "conditioner."), "a whole model"),
    (("conv_in.", "down_blocks.", "encoder.", "decoder.", "text_model."), "a part of a whole model"),
)
_OTHER_BASES = (
    (re.compile(r"double_blocks|single_transformer_blocks|single_blocks"), "Flux"),
    (
        re.compile(r"joint_blocks|lora_te3|text_encoder_3|transformer[._]transformer_blocks"),
        "Stable Diffusion 3",
    ),
)
_WIDTHS = {768: "Stable Diffusion 1.x", 1024: "Stable Diffusion 2.x", 2048: "Stable Diffusion XL"}
_ACROSS = re.compile(r"attn2[._]to_[kv]$")


@dataclass(frozen=True, eq=False)
class PartChange:
    """What a LoRA changes in one part of a base: its denoiser, or one text encoder."""

    layers: Mapping[str, Change]  # by their names in that part

    @property
    def nbytes(self) -> int:
        return sum(change.nbytes for change in self.layers.values())

    def to(self, *args: Any, **kwargs: Any) -> "PartChange":
        return PartChange({name: change.to(*args, **kwargs) for name, change in self.layers.items()})


@dataclass(frozen=True, eq=False)
class Lora:
    """A LoRA that fits a base."""

    unet: PartChange
    text: tuple[PartChange, ...]  # of each text encoder; without layers where the file has none for it

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in (self.unet, *self.text))

    def check_finite(self, name: str) -> None:
        """Read all of its weights.

        Raises:
            CheckpointError: NaN or infinite ones.
        """
        for part in (self.unet, *self.text):
            for layer, change in part.layers.items():
                if not change.finite():
                    raise CheckpointError(f"LoRA {name} holds NaN or infinity in {layer}; get another copy of it")


def read_lora(source: str | Path | Mapping[str, Tensor], layers: BaseLayers) -> Lora:
    """Read a LoRA for a base. The weights of a file are mapped: read when they are used.

    Args:
        source: a safetensors file, or the state dict of one.
        layers: of the base.

    Raises:
        CheckpointError: missing, damaged, a pickle, no LoRA, one of a kind that is not supported, or for another base.
    """
    name, (state, metadata, file) = _opened(source)
    try:
        settings = settings_of(metadata, file)
        by_layer, unknown, odd = _sorted_keys(name, state, layers)
        if settings.decomposed:
            raise CheckpointError(f"is {_OTHER_METHODS[0][1]}; it is not supported")
        other = next((what for starts, what in _OTHER_FILES if any(key.startswith(starts) for key in odd)), None)
        if other is not None:
            raise CheckpointError(f"is no LoRA but {other}")
        if not by_layer and not unknown:
            found = f"e.g. {next(iter(state))}" if state else "it holds nothing"
            raise CheckpointError(f"is no LoRA: no tensor of one is in it ({found})")
        if unknown or odd:
            raise CheckpointError(_unfitting(unknown, odd, by_layer, layers))
        changes = {layer: _change(layer, parts, settings, layers) for layer, parts in by_layer.items()}
    except CheckpointError as error:
        raise CheckpointError(f"LoRA {name} {error}") from error
    parts = [PartChange({}) for _ in range(layers.encoders + 1)]
    for number in range(len(parts)):
        parts[number] = PartChange({layer.name: c for layer, c in changes.items() if layer.part == number})
    return Lora(parts[0], tuple(parts[1:]))


def _opened(source: str | Path | Mapping[str, Tensor]) -> tuple[str, tuple[Mapping, Mapping[str, str], Path | None]]:
    """The name for messages; tensors, metadata and the file."""
    from safetensors import SafetensorError, safe_open

    if isinstance(source, Mapping):
        if not all(isinstance(value, Tensor) for value in source.values()):
            raise CheckpointError("LoRA state dict must hold tensors by their names")
        return "state dict", (source, {}, None)
    file = Path(source).expanduser()
    if file.suffix in (".bin", ".pt", ".pth", ".ckpt"):
        raise CheckpointError(f"LoRA {source} is a pickle, which can run code; get it as .safetensors")
    if file.is_dir():
        raise CheckpointError(f"LoRA {source} is a folder; name the .safetensors file in it")
    try:
        check_weights(file)
    except CheckpointError as error:  # which begins with the file
        raise CheckpointError(f"LoRA {error}") from None
    try:
        with safe_open(file, framework="pt", device="cpu") as opened:
            state = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
            return str(source), (state, opened.metadata() or {}, file)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"LoRA {source} is damaged ({error}); copy or download it again") from error


def _sorted_keys(
    name: str, state: Mapping[str, Tensor], layers: BaseLayers
) -> tuple[dict[Layer, dict[str, Tensor]], dict[str, Tensor], list[str]]:
    """Tensors by layer; those of layers that this base does not have; keys that belong to no LoRA."""
    found: dict[Layer, dict[str, Tensor]] = {}
    unknown: dict[str, Tensor] = {}
    odd: list[str] = []
    places: dict[str, Layer | None] = {}
    for key, value in state.items():
        method = next((what for pattern, what in _OTHER_METHODS if pattern.search(key)), None)
        if method is not None:
            raise CheckpointError(f"is {method}; it is not supported")
        match = next(((m, what) for pattern, what in _KEYS if (m := pattern.match(key))), None)
        if match is None:
            odd.append(key)
            continue
        where = match[0]["layer"]
        what = match[1] or _CANONICAL.get(match[0]["what"], match[0]["what"])
        if where not in places:
            places[where] = layers.find(where)
        layer = places[where]
        if layer is None:
            unknown[key] = value
        elif what in found.setdefault(layer, {}):
            raise CheckpointError(f"has {what} of {layer.name} twice, the second time as {key}")
        else:
            found[layer][what] = value
    return found, unknown, odd


def _change(layer: Layer, parts: Mapping[str, Tensor], settings: PeftSettings, layers: BaseLayers) -> Change:
    folder = layers.denoiser if layer.part == 0 else f"text_encoder{f'_{layer.part}' if layer.part > 1 else ''}"
    try:
        return change_of(parts, layer.shape, settings.layer(folder, layer.name))
    except CheckpointError as error:
        width = _width(parts) if _ACROSS.search(layer.name) else None
        if width is not None and width != layer.shape[1]:
            raise CheckpointError(_other_width(width, layer.shape[1])) from None
        raise CheckpointError(f"does not fit this base: its {layer.name} {error}") from None


def _unfitting(
    unknown: Mapping[str, Tensor], odd: Sequence[str], known: Mapping[Layer, Mapping[str, Tensor]], layers: BaseLayers
) -> str:
    """Why some keys have no place."""
    keys = [*unknown, *odd]
    other = next((title for pattern, title in _OTHER_BASES if any(pattern.search(key) for key in keys)), None)
    if other is not None:
        return f"is for {other}; get one for this base"
    for layer, parts in known.items():
        width = _width(parts) if _ACROSS.search(layer.name) else None
        if width is not None and width != layer.shape[1]:
            return _other_width(width, layer.shape[1])
    if not unknown:
        return f"holds {counted(len(odd), 'tensor')} that {'is' if len(odd) == 1 else 'are'} no LoRA (e.g. {odd[0]})"
    return (
        f"is for another base: {counted(len(unknown), 'tensor')} of {len(unknown) + sum(map(len, known.values()))} "
        f"belong to layers that this one does not have (e.g. {next(iter(unknown))})"
    )


def _width(parts: Mapping[str, Tensor]) -> int | None:
    return parts["lora_A"].shape[1] if "lora_A" in parts and parts["lora_A"].dim() > 1 else None


def _other_width(width: int, own: int) -> str:
    known = _WIDTHS.get(width)
    return f"is for {known or 'another base'}: it attends to text of width {width}, this base's has {own}"
