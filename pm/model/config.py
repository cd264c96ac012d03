"""Settings of the adapter: what is composed, where it is merged, what is trained."""

from dataclasses import dataclass
from typing import Literal

from pm.errors import ConfigError

Compose = Literal["stacked", "average", "linear"]
Merge = Literal["insert", "repeat"]


@dataclass(frozen=True)
class BaseConfig:
    """Which frozen base model and CLIP vision tower to use (`conf/base/*.yaml`)."""

    path: str  # a folder in the diffusers layout, or a Hub id
    vision_path: str  # a CLIPVisionModelWithProjection folder, or a Hub id
    family: str = "auto"  # as its model_index.json says; a default, since runs of earlier versions do not name one


@dataclass(frozen=True)
class AdapterConfig:
    """The architecture and the trainable part of a PhotoMaker adapter (`conf/model/*.yaml`)."""

    compose: Compose  # Table 2a of the paper
    merge: Merge  # insert: eq. 1-2 of the paper; repeat: what the published weights were trained with
    lora_rank: int  # alpha = rank, so the scale is 1
    lora_targets: tuple[str, ...]  # names of U-Net attention matrices
    train_layers: int  # upper layers of the vision tower that are fine-tuned; >= its depth: the whole tower
    max_id_images: int  # N_max
    trigger_word: str
    gradient_checkpointing: bool

    def __post_init__(self) -> None:
        if self.lora_rank < 1:
            raise ConfigError(f"adapter.lora_rank={self.lora_rank} must be at least 1")
        if not self.lora_targets:
            raise ConfigError("adapter.lora_targets is empty; name attention matrices, e.g. [to_q,to_k,to_v,to_out.0]")
        if self.train_layers < 0:
            raise ConfigError(f"adapter.train_layers={self.train_layers} must be 0 or more")
        if self.max_id_images < 1:
            raise ConfigError(f"adapter.max_id_images={self.max_id_images} must be at least 1")
        if not self.trigger_word.isalnum():
            raise ConfigError(f"adapter.trigger_word={self.trigger_word!r} must be one word of letters and digits")
