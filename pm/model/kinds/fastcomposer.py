"""FastComposer: a fused token for a person, trained with a loss on cross-attention (Xiao et al. 2023)."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Ge, MinLen
from torch import Tensor

from pm.errors import CheckpointError
from pm.model.adapter import load_id_encoder
from pm.model.adapter_file import ID_PREFIX, LORA_PREFIX, AdapterMeta, load_adapter, strip
from pm.model.base import BaseModel
from pm.model.compose.average import Average
from pm.model.config import FUSED, AdapterConfig, LoraImpl, check_trigger_word
from pm.model.fastcomposer import UNET_PREFIX, FastComposer
from pm.model.fused import FusedLora, ReplacedUnet, UnetChange
from pm.model.id_encoder import tower_shape
from pm.model.kinds.base import AdapterChoice, check_kind
from pm.model.kinds.photomaker import PhotoMakerChoice, read_conditioner
from pm.model.lora import load_lora, lora_shape, normalise_lora
from pm.model.photomaker import IdConditioner
from pm.model.trained import TrainedAdapter

# Parts of the published checkpoint, a whole model, by ours. "": the base's own, which was frozen.
_PUBLISHED = {
    "image_encoder.": ID_PREFIX,
    "postfuse_module.": f"{ID_PREFIX}fuse_module.",
    "unet.": UNET_PREFIX,
    "text_encoder.": "",
    "vae.": "",
}
_TOKENS = "text_encoder.embeddings.token_embedding.weight"
_KNOWN = 16  # numbers of the text encoder that tell one base from another


@dataclass(frozen=True)
class FastComposerChoice(AdapterChoice):
    """What of the U-Net and the vision tower is trained, and how attention is kept on the person."""

    lora_rank: Annotated[int | None, Ge(1)]  # None: the whole U-Net is trained, as in the paper
    lora_targets: Annotated[tuple[str, ...], MinLen(1)]
    train_layers: Annotated[int, Ge(0)]  # upper layers of the vision tower
    localization_weight: Annotated[float, Ge(0)]
    localization_blocks: Annotated[int, Ge(1)]  # of the U-Net, from the middle
    lora_impl: LoraImpl = field(default=FUSED, kw_only=True)  # where lora_rank is given

    title: ClassVar[str] = "FastComposer"

    def __post_init__(self) -> None:
        check_trigger_word(self.trigger_word)

    def stored(self, max_references: int) -> tuple[tuple[int, ...] | None, int | None]:
        return None, self.train_layers

    def build(self, base: BaseModel) -> TrainedAdapter:
        config = _config(
            self.lora_rank or 1, self.lora_targets, self.train_layers, self.max_id_images, self.trigger_word
        )
        config = replace(config, lora_impl=self.lora_impl)
        model = FastComposer(
            base,
            config,
            whole=self.lora_rank is None,
            localization_weight=self.localization_weight,
            localization_blocks=self.localization_blocks,
        )
        if self.gradient_checkpointing:
            model.enable_gradient_checkpointing()
        return model

    def start_from(self, model: Any, path: str | Path) -> None:
        state, meta = load_adapter(path)
        check_kind(meta.kind, self.name, path)
        load_id_encoder(model, state, meta)
        unet, lora = strip(state, UNET_PREFIX), strip(state, LORA_PREFIX)
        if model.whole != bool(unet):
            raise CheckpointError(
                f"{path} holds {'a whole U-Net' if unet else 'LoRA'}, the model trains the other; set adapter.lora_rank"
            )
        if not model.whole:
            load_lora(model.unet, model.base.family.lora_prefix, lora)
            return
        change = ReplacedUnet(model.unet, unet)
        with torch.no_grad():
            for name, value in change.state.items():
                model.unet.get_parameter(name).copy_(value)

    @classmethod
    def claims(cls, keys: Collection[str]) -> bool:
        return any(key.startswith("postfuse_module.") for key in keys)

    @classmethod
    def check(cls, state: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
        if not strip(state, UNET_PREFIX):
            return PhotoMakerChoice.check(state, name)
        odd = next((key for key in state if not key.startswith((ID_PREFIX, UNET_PREFIX))), None)
        if odd is not None or not strip(state, ID_PREFIX):
            raise CheckpointError(
                f"{name} is not a FastComposer adapter: keys must start with {ID_PREFIX} or {UNET_PREFIX}, found "
                f"{odd or 'none of the first'}"
            )
        return {k: v for k, v in state.items() if not k.endswith("embeddings.position_ids")}

    @classmethod
    def published(cls, state: Mapping[str, Tensor], name: str) -> tuple[dict[str, Tensor], AdapterMeta]:
        """The authors' checkpoint, a whole model. Its text encoder must be the base's: that was frozen."""
        found: dict[str, Tensor] = {}
        for key, value in state.items():
            part = next((part for part in _PUBLISHED if key.startswith(part)), None)
            if part is None:
                raise CheckpointError(f"{name} is not a FastComposer checkpoint: {key} does not belong to it")
            if _PUBLISHED[part]:
                found[_PUBLISHED[part] + key.removeprefix(part)] = value
        vision = tower_shape(strip(found, ID_PREFIX))
        if vision is None or _TOKENS not in state or not strip(found, UNET_PREFIX):
            raise CheckpointError(f"{name} is not a whole FastComposer checkpoint; copy or download it again")
        meta = AdapterMeta(
            kind="fastcomposer",
            base_fingerprint="",
            compose=Average("average"),
            merge="insert",
            trigger_word="img",
            max_id_images=16,  # trained with one of each person; of several, the mean
            crop_mode="none",
            project_version="published",
            vision_config=vision,
            extra={},
            settings={"text": state[_TOKENS][-1, :_KNOWN].float().tolist()},
        )
        return cls.check(found, name), meta

    @classmethod
    def width(cls, state: Mapping[str, Tensor]) -> int | None:
        return PhotoMakerChoice.width(state)

    @classmethod
    def read(
        cls, base: BaseModel, state: Mapping[str, Tensor], meta: AdapterMeta, *, check_base: bool
    ) -> tuple[IdConditioner, UnetChange]:
        if check_base and base.text_encoders is not None:
            _check_text(base, meta.settings.get("text"))
        unet, lora = strip(state, UNET_PREFIX), strip(state, LORA_PREFIX)
        rank, targets = (1, ("to_q",)) if unet else lora_shape(lora)
        config = _config(rank, targets, 0, meta.max_id_images, meta.trigger_word)
        conditioner = read_conditioner(base, config, state, meta, check_base=check_base)
        if unet:
            return conditioner, ReplacedUnet(base.unet, unet)
        return conditioner, FusedLora(base.unet, base.family.lora_prefix, normalise_lora(lora))


def _config(rank: int, targets: tuple[str, ...], train_layers: int, most: int, trigger: str) -> AdapterConfig:
    return AdapterConfig(
        compose=Average("average"),
        merge="insert",
        lora_rank=rank,
        lora_targets=targets,
        train_layers=train_layers,
        max_id_images=most,
        trigger_word=trigger,
        gradient_checkpointing=False,
    )


def _check_text(base: BaseModel, known: list[float] | None) -> None:
    """Whether a base has the text encoder of a published checkpoint, as far as its dtype can tell."""
    if known is None:
        return
    encoders: Any = base.text_encoders
    own = encoders[0].get_input_embeddings().weight[-1, :_KNOWN].float().cpu()
    if len(own) != len(known) or not torch.allclose(own, torch.tensor(known), rtol=0.02, atol=1e-3):
        raise CheckpointError(
            f"the checkpoint was trained with another text encoder than that of {base.path}; use Stable Diffusion 1.5, "
            "or check_base=false for a fine-tuned one"
        )
