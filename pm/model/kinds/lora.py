"""A LoRA on the U-Net and nothing else: it knows no person. Its file is one that diffusers and `loras=` take."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, NoReturn

from annotated_types import Ge, MinLen
from torch import Tensor

from pm.errors import CheckpointError
from pm.model.adapter import check_fingerprint
from pm.model.adapter_file import AdapterMeta, load_adapter
from pm.model.base import BaseModel
from pm.model.config import FUSED, LoraImpl
from pm.model.kinds.base import AdapterChoice, check_kind
from pm.model.lora import load_lora, normalise_lora
from pm.model.plain_lora import PlainLora
from pm.model.trained import TrainedAdapter


@dataclass(frozen=True)
class LoraChoice(AdapterChoice):
    """Which matrices get a LoRA."""

    lora_rank: Annotated[int, Ge(1)]
    lora_targets: Annotated[tuple[str, ...], MinLen(1)]  # names of matrices in the U-Net's attention
    lora_impl: LoraImpl = field(default=FUSED, kw_only=True)

    title: ClassVar[str] = "LoRA"
    marks_class_word: ClassVar[bool] = False
    delays: ClassVar[bool] = False
    weighs_photos: ClassVar[bool] = False

    def build(self, base: BaseModel) -> TrainedAdapter:
        model = PlainLora(
            base, self.lora_rank, self.lora_targets, self.trigger_word, self.max_id_images, self.lora_impl
        )
        if self.gradient_checkpointing:
            model.unet.enable_gradient_checkpointing()
        return model

    def start_from(self, model: Any, path: str | Path) -> None:
        state, meta = load_adapter(path)
        check_kind(meta.kind, self.name, path)
        check_fingerprint(model.base, meta)
        load_lora(model.unet, model.base.family.lora_prefix, state)

    @classmethod
    def check(cls, state: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
        return normalise_lora(state)

    @classmethod
    def read(cls, base: BaseModel, state: Mapping[str, Tensor], meta: AdapterMeta, *, check_base: bool) -> NoReturn:
        raise CheckpointError("this file is a LoRA, which knows no person: give it as loras=[...], not as the adapter")

    @classmethod
    def claims(cls, keys: Collection[str]) -> bool:
        """None: what has no metadata of ours is no adapter."""
        return False
