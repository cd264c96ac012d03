"""PhotoMaker V2: v1 with face embeddings, and more than one token for each photo."""

from typing import Any

from torch import Tensor

from pm.config import from_mapping
from pm.errors import CheckpointError, ConfigError
from pm.model.adapter_file import AdapterMeta
from pm.model.base import BaseModel
from pm.model.config import AdapterConfig, FaceEmbedding
from pm.model.face_encoder import PerceiverShape, build_face_encoder
from pm.model.id_encoder import IdEncoder
from pm.model.photomaker import IdConditioner, PhotoMaker


class FaceConditioner(IdConditioner):
    """ID images, the embeddings of their faces and text to conditioning. Shapes as in `IdConditioner`, and E, K."""

    def __init__(
        self,
        base: BaseModel,
        config: AdapterConfig,
        shape: PerceiverShape,
        vision_config: dict[str, Any] | None = None,
    ) -> None:
        """As `IdConditioner`, with the perceiver's shape."""
        self.shape = shape  # asked for by `new_encoder`, before the rest is there
        super().__init__(base, config, vision_config)
        self.tokens_per_photo = shape.tokens

    def new_encoder(self, vision_config: dict[str, Any] | None) -> IdEncoder:
        return build_face_encoder(self.base, self.config, self.shape, vision_config)

    @property
    def face_width(self) -> int:
        return self.shape.face_width


class PhotoMakerV2(FaceConditioner, PhotoMaker):
    """The U-Net on text merged with tokens of ID images and their faces, in training."""

    kind = "photomaker_v2"

    def __init__(
        self,
        base: BaseModel,
        config: AdapterConfig,
        shape: PerceiverShape,
        face: FaceEmbedding,
        vision_config: dict[str, Any] | None = None,
    ) -> None:
        """As `PhotoMaker`.

        Args:
            base: as there.
            config: as there.
            shape: of the perceiver.
            face: whose face embeddings it is trained with.
            vision_config: as there.
        """
        super().__init__(base, config, shape, vision_config)
        self.face = face

    def forward(self, noisy: Tensor, timesteps: Tensor, batch: Any) -> Tensor:
        """As `PhotoMaker.forward`; `batch.face_embeds` is [M, E]."""
        text = self._training_text(batch)
        embeds = self.embed(batch.id_pixels, batch.face_embeds)
        conditioning = self.condition(
            text,
            batch.class_index,
            None,
            batch.id_counts,
            batch.time_ids,
            id_embeds=embeds,
            most_photos=getattr(batch, "most_photos", None),
        )
        return self.predict(noisy, timesteps, self.drop_rows(conditioning, batch.drop_text))

    def about(self) -> dict[str, Any]:
        return super().about() | {"settings": face_settings(self.face, self.shape.tokens)}


def face_settings(face: FaceEmbedding, tokens: int) -> dict[str, Any]:
    """What the metadata of a file says of this kind alone."""
    known = {"embedder": face.embedder, "weights": face.weights, "width": face.width}
    return {"face_embedding": known, "tokens_per_photo": tokens}


def face_of(meta: AdapterMeta) -> FaceEmbedding | None:
    """Which face embeddings an adapter's metadata asks for; None: it takes none.

    Raises:
        CheckpointError: the metadata is damaged.
    """
    known = meta.settings.get("face_embedding")
    if known is None:
        return None
    try:
        return from_mapping(FaceEmbedding, known)
    except ConfigError as error:
        raise CheckpointError(f"adapter metadata about face embeddings is damaged ({error}); export it again") from None
