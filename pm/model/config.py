"""Settings of the adapter: what is composed, where it is merged, what is trained."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, MinLen

from pm.errors import ConfigError
from pm.model.compose.base import ComposeChoice

Merge = Literal["insert", "repeat"]
LoraImpl = Literal["fused", "peft"]  # which layers compute the LoRA in training; the weights are the same
FUSED: LoraImpl = "fused"
LoraType = Literal["lora", "dora", "lokr"]  # what the U-Net's matrices are adapted by (`pm.model.lora_types`)
ID_PREFIX, LORA_PREFIX = "id_encoder.", "lora_weights."  # of the names in an adapter's file


@dataclass(frozen=True)
class BaseConfig:
    """Which frozen base model and CLIP vision tower to use (`conf/base/*.yaml`)."""

    path: str  # a folder in the diffusers layout, or a Hub id
    vision_path: str  # a CLIPVisionModelWithProjection folder, or a Hub id
    family: str = "auto"  # as its model_index.json says; a default, since runs of earlier versions do not name one


@dataclass(frozen=True)
class FaceEmbedding:
    """Which face embeddings an adapter was trained with, or a dataset has: those of another embedder say nothing."""

    embedder: str  # its name; "": unknown
    weights: str  # fingerprint of its network's files; "": it has none, or they are unknown
    width: Annotated[int, Ge(1)]  # E

    def differs(self, other: "FaceEmbedding") -> bool:
        """Whether the two cannot be the same embedder's; what is unknown may be anything."""
        named = [(self.embedder, other.embedder), (self.weights, other.weights)]
        return self.width != other.width or any(a and b and a != b for a, b in named)

    def __str__(self) -> str:
        weights = f" {self.weights}" if self.weights else ""
        return f"embedder={self.embedder or 'unknown'}{weights} ({self.width} numbers)"


@dataclass(frozen=True)
class AdapterConfig:
    """The architecture and the trainable part of a PhotoMaker adapter (`conf/model/photomaker.yaml`)."""

    compose: ComposeChoice  # Table 2a of the paper
    merge: Merge  # insert: eq. 1-2 of the paper; repeat: what the published weights were trained with
    lora_rank: Annotated[int, Ge(1)]  # alpha = rank, so the scale is 1
    lora_targets: Annotated[tuple[str, ...], MinLen(1)]  # U-Net attention matrices, e.g. [to_q,to_k,to_v,to_out.0]
    train_layers: Annotated[
        int, Ge(0)
    ]  # upper layers of the vision tower that are fine-tuned; >= its depth: the whole tower
    max_id_images: Annotated[int, Ge(1)]  # N_max
    trigger_word: str
    gradient_checkpointing: bool
    # A default, as runs and adapter files of earlier versions do not name it
    lora_impl: LoraImpl = field(default=FUSED, kw_only=True)
    lora_type: LoraType = field(default="lora", kw_only=True)

    def __post_init__(self) -> None:
        check_trigger_word(self.trigger_word)
        check_lora(self.lora_type, self.lora_impl)


def check_lora(kind: LoraType, impl: LoraImpl) -> None:
    """Fail where there are no such layers.

    Raises:
        ConfigError: PEFT's layers are asked for with another type than LoRA.
    """
    if kind != "lora" and impl != FUSED:
        raise ConfigError(
            f"adapter.lora_type={kind} has layers of this project only, not adapter.lora_impl={impl}; leave that at "
            f"{FUSED}"
        )


def check_trigger_word(word: str) -> None:
    """Fail unless it is one word.

    Raises:
        ConfigError: it is not.
    """
    if not word.isalnum():
        raise ConfigError(f"adapter.trigger_word={word!r} must be one word of letters and digits")
