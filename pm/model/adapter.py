"""Weights between an adapter file and a model: out of one in training, into one, strictly."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from pm.errors import CheckpointError
from pm.model.adapter_file import ID_PREFIX, LORA_PREFIX, AdapterMeta, load_adapter, read_head, strip
from pm.model.base import BaseModel
from pm.model.kinds.base import check_kind
from pm.model.lora import adapter_type, load_lora
from pm.model.photomaker import IdConditioner, PhotoMaker
from pm.model.trained import TrainedAdapter


def meta_of(model: TrainedAdapter, *, crop_mode: str, project_version: str, **extra: Any) -> AdapterMeta:
    """The metadata of a model in training, of any kind."""
    return AdapterMeta(
        kind=model.kind,
        base_fingerprint=model.base.fingerprint,
        trigger_word=model.trigger_word,
        max_id_images=model.max_id_images,
        crop_mode=crop_mode,
        project_version=project_version,
        extra=extra,
        **model.about(),
    )


def adapter_parameters(model: TrainedAdapter) -> dict[str, nn.Parameter]:
    """Every parameter of the adapter by its key in the file; under ZeRO-3 gather these before `adapter_state`."""
    return model.adapter_parameters()


def adapter_state(model: TrainedAdapter) -> dict[str, Tensor]:
    """A copy of the adapter's weights on the CPU, ready for `save_adapter`.

    Raises:
        CheckpointError: a weight is empty, i.e. still partitioned by ZeRO-3.
    """
    parameters = adapter_parameters(model)
    empty = [name for name, p in parameters.items() if p.numel() == 0]
    if empty:
        raise CheckpointError(f"{empty[0]} is empty (partitioned by ZeRO-3); gather adapter_parameters() first")
    return {name: p.detach().to("cpu", copy=True).contiguous() for name, p in parameters.items()}


def apply_adapter(
    photomaker: PhotoMaker, state: Mapping[str, Tensor], meta: AdapterMeta, *, check_base: bool = True
) -> None:
    """Copy an adapter's weights into the model, strictly.

    Raises:
        CheckpointError: trained on another base, built otherwise (compose, merge), or shapes differ.
    """
    load_id_encoder(photomaker, state, meta, check_base=check_base)
    load_lora(photomaker.unet, photomaker.base.family.lora_prefix, strip(state, LORA_PREFIX))


def start_from(photomaker: PhotoMaker, path: str | Path) -> None:
    """Give a model in training the weights of an adapter, which may compose or merge otherwise.

    A learned composition that the adapter does not have keeps its new weights.

    Raises:
        CheckpointError: missing, damaged, trained on another base, or of other shapes.
    """
    state, meta = load_adapter(path)
    check_kind(meta.kind, photomaker.kind, path)
    own, learned = adapter_state(photomaker), f"{ID_PREFIX}compose."
    kept = {key: value for key, value in state.items() if not key.startswith(learned)}
    composing = {key: state.get(key, value) for key, value in own.items() if key.startswith(learned)}
    same = replace(meta, compose=photomaker.config.compose, merge=photomaker.config.merge)
    apply_adapter(photomaker, _with_lora_of(own, kept, path) | composing, same)


def _with_lora_of(own: Mapping[str, Tensor], state: Mapping[str, Tensor], path: str | Path) -> dict[str, Tensor]:
    """A file's weights, with the model's new LoRA in place of one of another type that changes nothing."""
    theirs, ours = strip(state, LORA_PREFIX), {k: v for k, v in own.items() if k.startswith(LORA_PREFIX)}
    types = adapter_type(theirs), adapter_type(strip(ours, LORA_PREFIX))
    if types[0] == types[1]:
        return dict(state)
    if any(bool(value.any()) for key, value in theirs.items() if not key.endswith("lora_A.weight")):
        raise CheckpointError(
            f"init={path} has lora_type={types[0]}, the model lora_type={types[1]}; set adapter.lora_type={types[0]}, "
            "or start from an adapter whose LoRA is not trained yet"
        )
    return {k: v for k, v in state.items() if not k.startswith(LORA_PREFIX)} | ours


def check_adapter(path: str | Path, base: BaseModel, *, check_base: bool = True) -> AdapterMeta:
    """Refuse a file that cannot be an adapter for a base, before the weights of either are loaded.

    Args:
        path: of the adapter.
        base: any parts of it, or none, are loaded.
        check_base: refuse one that was trained on another base, also where it would fit.

    Raises:
        CheckpointError: missing, damaged, no adapter, or made for another base.
    """
    meta, width = read_head(path)
    name = f"adapter {Path(path).expanduser().absolute()}"
    if check_base:
        check_fingerprint(base, meta, name)
    if width is not None and width != base.text_width:
        raise CheckpointError(
            f"{name} is made for text features of width {width}, those of the base {base.path} have {base.text_width}; "
            "give the base that it was trained on, or another adapter"
        )
    return meta


def check_fingerprint(base: BaseModel, meta: AdapterMeta, name: str = "adapter") -> None:
    """Fail when an adapter says that it was trained on another base.

    Raises:
        CheckpointError: it was; names both.
    """
    if meta.base_fingerprint and meta.base_fingerprint != base.fingerprint:
        raise CheckpointError(
            f"{name} was trained on base {meta.base_fingerprint}, but {base.path} is {base.fingerprint}; "
            "use that base, or check_base=false for a fine-tuned one"
        )


def load_id_encoder(
    conditioner: IdConditioner, state: Mapping[str, Tensor], meta: AdapterMeta, *, check_base: bool = True
) -> None:
    """Copy an adapter's id encoder into the model, strictly; its LoRA is left to the caller.

    Raises:
        CheckpointError: as `apply_adapter`.
    """
    base, config = conditioner.base, conditioner.config
    if check_base:
        check_fingerprint(base, meta)
    for name, theirs, ours in (
        ("compose", meta.compose.label, config.compose.label),
        ("merge", meta.merge, config.merge),
    ):
        if theirs != ours:
            raise CheckpointError(f"adapter has {name}={theirs}, the model {ours}; set {name}")
    try:
        conditioner.id_encoder.load_state_dict(strip(state, ID_PREFIX), strict=True)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise CheckpointError(f"adapter does not fit the id encoder: {' '.join(lines[1:3])[:300]}") from error
