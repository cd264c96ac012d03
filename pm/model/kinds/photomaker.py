"""PhotoMaker: photos fused with the class word and stacked in the text, and LoRA on the U-Net (paper section 3)."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from pm.errors import CheckpointError
from pm.model.adapter import load_id_encoder, start_from
from pm.model.adapter_file import ID_PREFIX, LORA_PREFIX, AdapterMeta, strip
from pm.model.base import BaseModel
from pm.model.compose.stacked import Stacked
from pm.model.config import AdapterConfig
from pm.model.face_encoder import PERCEIVER
from pm.model.files import read_json
from pm.model.fused import UnetChange
from pm.model.fused_types import fused_of
from pm.model.id_encoder import PUBLISHED_VISION, tower_shape
from pm.model.kinds.base import AdapterChoice
from pm.model.lora import normalise_lora
from pm.model.photomaker import IdConditioner, PhotoMaker
from pm.model.trained import TrainedAdapter


@dataclass(frozen=True)
class PhotoMakerChoice(AdapterConfig, AdapterChoice):
    """The paper's adapter."""

    title: ClassVar[str] = "PhotoMaker"

    def parts(self) -> tuple[str, ...]:
        return ("unet", "text") if self.merge == "repeat" else ("unet",)

    def stored(self, max_references: int) -> tuple[tuple[int, ...] | None, int | None]:
        tokens = tuple(self.compose.tokens(photos) for photos in range(1, max_references + 1))
        return (tokens if self.merge == "repeat" else None), self.train_layers

    def build(self, base: BaseModel) -> TrainedAdapter:
        return PhotoMaker(base, self)

    def start_from(self, model: Any, path: str | Path) -> None:
        start_from(model, path)

    @classmethod
    def claims(cls, keys: Collection[str]) -> bool:
        ours = any(key.startswith((ID_PREFIX, LORA_PREFIX)) for key in keys)
        return ours and not any(key.startswith(ID_PREFIX + PERCEIVER) for key in keys)  # those are V2

    @classmethod
    def check(cls, state: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
        encoder, lora = strip(state, ID_PREFIX), strip(state, LORA_PREFIX)
        if not encoder or not lora or len(encoder) + len(lora) != len(state):
            odd = next((k for k in state if not k.startswith((ID_PREFIX, LORA_PREFIX))), "nothing else")
            raise CheckpointError(
                f"{name} is not a PhotoMaker adapter: keys must start with {ID_PREFIX} or {LORA_PREFIX}, found {odd}"
            )
        # A buffer that older transformers saved; it only counts positions.
        encoder.pop("vision_model.embeddings.position_ids", None)
        found = {ID_PREFIX + k: v for k, v in encoder.items()}
        return found | {LORA_PREFIX + k: v for k, v in normalise_lora(lora).items()}

    @classmethod
    def published(cls, state: Mapping[str, Tensor], name: str) -> tuple[dict[str, Tensor], AdapterMeta]:
        """Stacked, repeat, "img", as the authors' own loader has it."""
        found = cls.check(state, name)
        return found, published_meta(found, name)

    @classmethod
    def width(cls, state: Mapping[str, Tensor]) -> int | None:
        norm = state.get(f"{ID_PREFIX}fuse_module.layer_norm.weight")
        return None if norm is None else norm.shape[0]

    @classmethod
    def read(
        cls, base: BaseModel, state: Mapping[str, Tensor], meta: AdapterMeta, *, check_base: bool
    ) -> tuple[IdConditioner, UnetChange]:
        config = meta.config(state)
        conditioner = read_conditioner(base, config, state, meta, check_base=check_base)
        return conditioner, fused_of(base.unet, base.family.lora_prefix, strip(state, LORA_PREFIX))


def published_meta(state: Mapping[str, Tensor], name: str) -> AdapterMeta:
    """What the authors' own loader knows of a file of theirs; `state`: checked.

    Raises:
        CheckpointError: it has no vision tower.
    """
    vision = tower_shape(strip(state, ID_PREFIX))
    if vision is None:
        raise CheckpointError(f"{name} has no metadata and no CLIP vision tower; is this a PhotoMaker adapter?")
    return AdapterMeta(
        base_fingerprint="",
        compose=Stacked("stacked"),
        merge="repeat",
        trigger_word="img",
        max_id_images=16,  # trained with 1-4; its own pipeline takes any number
        crop_mode="none",
        project_version="published",
        vision_config=vision,
        extra={},
    )


def read_conditioner(
    base: BaseModel,
    config: AdapterConfig,
    state: Mapping[str, Tensor],
    meta: AdapterMeta,
    *,
    check_base: bool,
    make: Callable[..., IdConditioner] = IdConditioner,
) -> IdConditioner:
    """The id encoder of a file, frozen, on the U-Net's device.

    `make`: another class of conditioners, with the arguments of `IdConditioner`.

    Raises:
        CheckpointError: it does not fit the base.
    """
    if not meta.base_fingerprint:
        meta = _with_heads(meta, base)
    with torch.device("meta"):  # its weights come from the file: drawing random ones would take longer than reading
        conditioner = make(base, config, vision_config=meta.vision_config)
    conditioner = conditioner.to_empty(device="cpu")
    # A buffer that is in no file: CLIP counts its positions.
    embeddings = conditioner.id_encoder.vision_model.embeddings
    embeddings.position_ids.copy_(torch.arange(embeddings.position_ids.shape[-1])[None])
    load_id_encoder(conditioner, state, meta, check_base=check_base)
    conditioner.requires_grad_(False).to(base.unet.device, base.unet.dtype).eval()
    return conditioner


def _with_heads(meta: AdapterMeta, base: BaseModel) -> AdapterMeta:
    """A published adapter says nothing of its tower's attention heads; the base's own tower of that shape does."""
    file = Path(base.vision_path).expanduser() / "config.json"
    if not base.vision_path or not file.is_file():
        return meta
    own = {name: value for name, value in read_json(file).items() if name in PUBLISHED_VISION}
    guessed = ("num_attention_heads", "hidden_act")
    if any(meta.vision_config[name] != value for name, value in own.items() if name not in guessed):
        return meta
    return replace(meta, vision_config=meta.vision_config | own)
