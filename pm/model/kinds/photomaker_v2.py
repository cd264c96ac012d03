"""PhotoMaker V2: two tokens for each photo, of its face embedding and its picture, and LoRA on the U-Net.

After the code and the weights that the authors of PhotoMaker published in July 2024.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from annotated_types import Ge, MinLen
from torch import Tensor

from pm.errors import CheckpointError, ConfigError, DataError
from pm.model.adapter import start_from
from pm.model.adapter_file import ID_PREFIX, LORA_PREFIX, AdapterMeta, read_head, strip
from pm.model.base import BaseModel
from pm.model.compose.stacked import Stacked
from pm.model.config import FUSED, AdapterConfig, FaceEmbedding, LoraImpl, Merge, check_trigger_word
from pm.model.face_encoder import PERCEIVER, PerceiverShape, perceiver_shape
from pm.model.fused import FusedLora, UnetChange
from pm.model.kinds.base import AdapterChoice
from pm.model.kinds.photomaker import PhotoMakerChoice, published_meta, read_conditioner
from pm.model.photomaker import IdConditioner
from pm.model.photomaker_v2 import FaceConditioner, PhotoMakerV2, face_of, face_settings
from pm.model.trained import TrainedAdapter


@dataclass(frozen=True)
class PhotoMakerV2Choice(AdapterChoice):
    """The stacked ID embedding with face embeddings."""

    merge: Merge
    tokens: Annotated[int, Ge(1)]  # of each photo
    depth: Annotated[int, Ge(1)]  # blocks of the perceiver
    lora_rank: Annotated[int, Ge(1)]
    lora_targets: Annotated[tuple[str, ...], MinLen(1)]
    train_layers: Annotated[int, Ge(0)]  # upper layers of the vision tower that are fine-tuned
    face: FaceEmbedding | None  # what the dataset has; None: not known yet
    lora_impl: LoraImpl = field(default=FUSED, kw_only=True)

    title: ClassVar[str] = "PhotoMaker V2"
    sees_faces: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_trigger_word(self.trigger_word)

    def parts(self) -> tuple[str, ...]:
        return ("unet", "text") if self.merge == "repeat" else ("unet",)

    def stored(self, max_references: int) -> tuple[tuple[int, ...] | None, int | None]:
        tokens = tuple(self.tokens * photos for photos in range(1, max_references + 1))
        return (tokens if self.merge == "repeat" else None), self.train_layers

    def for_dataset(self, face: FaceEmbedding | None, name: str) -> Self:
        if face is None:
            raise DataError(
                f"{name} has no face embeddings, which {self.title} is trained with; preprocess with "
                "features.face_embeddings=true and an embedder (embedder=insightface, dlib, probe, ...)"
            )
        if self.face is not None and self.face.differs(face):
            raise DataError(f"{name} has face embeddings of {face}, adapter.face says {self.face}; leave that out")
        return replace(self, face=face)

    def build(self, base: BaseModel) -> TrainedAdapter:
        if self.face is None:
            raise ConfigError(
                "adapter.face is not set; a dataset with face embeddings says it, or width=512 of its own"
            )
        config = AdapterConfig(
            compose=Stacked("stacked"),
            merge=self.merge,
            lora_rank=self.lora_rank,
            lora_targets=self.lora_targets,
            train_layers=self.train_layers,
            max_id_images=self.max_id_images,
            trigger_word=self.trigger_word,
            gradient_checkpointing=self.gradient_checkpointing,
            lora_impl=self.lora_impl,
        )
        return PhotoMakerV2(base, config, PerceiverShape(self.face.width, self.tokens, self.depth), self.face)

    def start_from(self, model: Any, path: str | Path) -> None:
        meta, _ = read_head(path)
        theirs = face_of(meta)
        if theirs is not None and theirs.differs(model.face):
            raise CheckpointError(
                f"init={path} was trained with face embeddings of {theirs}, the dataset has those of {model.face}; "
                "preprocess with that embedder, or leave init out"
            )
        start_from(model, path)

    @classmethod
    def claims(cls, keys: Collection[str]) -> bool:
        return any(key.startswith(ID_PREFIX + PERCEIVER) for key in keys)

    @classmethod
    def check(cls, state: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
        found = PhotoMakerChoice.check(state, name)
        perceiver_shape(strip(found, ID_PREFIX), name)
        return found

    @classmethod
    def published(cls, state: Mapping[str, Tensor], name: str) -> tuple[dict[str, Tensor], AdapterMeta]:
        """As v1. Its face embeddings are ArcFace's, as InsightFace's packs have it; which file of it, nothing says."""
        found = cls.check(state, name)
        shape = perceiver_shape(strip(found, ID_PREFIX), name)
        settings = face_settings(FaceEmbedding("", "", shape.face_width), shape.tokens)
        return found, replace(published_meta(found, name), kind="photomaker_v2", settings=settings)

    @classmethod
    def width(cls, state: Mapping[str, Tensor]) -> int | None:
        return PhotoMakerChoice.width(state)

    @classmethod
    def read(
        cls, base: BaseModel, state: Mapping[str, Tensor], meta: AdapterMeta, *, check_base: bool
    ) -> tuple[IdConditioner, UnetChange]:
        shape, face = perceiver_shape(strip(state, ID_PREFIX), "the adapter"), face_of(meta)
        said = None if face is None else face_settings(face, shape.tokens)
        if face is None or face.width != shape.face_width or said != meta.settings:
            raise CheckpointError("adapter metadata about face embeddings is not that of its weights; export it again")
        make = partial(FaceConditioner, shape=shape)
        conditioner = read_conditioner(base, meta.config(state), state, meta, check_base=check_base, make=make)
        return conditioner, FusedLora(base.unet, base.family.lora_prefix, strip(state, LORA_PREFIX))
