"""The id encoder of PhotoMaker V2: tokens from a face embedding that read the picture, then the fusion of v1.

Described by the code that was published with the weights (github.com/TencentARC/PhotoMaker, `model_v2.py`); there is no
paper. Parameter names are those of the published checkpoint, so that both load strictly.

Shapes: M photos, T tokens of the vision tower, H their width, E width of a face embedding, K tokens of a photo, D text
width.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from pm.errors import CheckpointError
from pm.model.base import BaseModel
from pm.model.compose.base import ComposeChoice
from pm.model.config import AdapterConfig
from pm.model.id_encoder import IdEncoder, build_id_encoder, upper_layers
from pm.model.perceiver import blocks, read_picture

PERCEIVER = "qformer_perceiver."  # what a file of this kind has, and none of v1
_HEAD = 128  # width of an attention head, where the text is as wide
_RATIO = 4  # how much wider the projection of the face embedding is inside


@dataclass(frozen=True)
class PerceiverShape:
    """What of the perceiver the base and its vision tower do not decide."""

    face_width: int  # E
    tokens: int  # K
    depth: int  # blocks


class Resampler(nn.Module):
    """Tokens [M, K, D] of the face read the picture [M, T, H]."""

    def __init__(self, seen: int, width: int, depth: int) -> None:
        super().__init__()
        head = min(_HEAD, width)
        self.proj_in, self.proj_out = nn.Linear(seen, width), nn.Linear(width, width)
        self.norm_out = nn.LayerNorm(width)
        self.layers = blocks(width, width // head, head, depth)

    def forward(self, tokens: Tensor, image: Tensor) -> Tensor:
        return self.norm_out(self.proj_out(read_picture(self.layers, self.proj_in(image), tokens)))


class FacePerceiver(nn.Module):
    """A face embedding [M, E] and the picture's hidden states [M, T, H] to K tokens [M, K, D]."""

    def __init__(self, seen: int, width: int, shape: PerceiverShape) -> None:
        """`seen`: H. `width`: D."""
        super().__init__()
        face, inner = shape.face_width, _RATIO * shape.face_width
        self.token_proj = nn.Sequential(nn.Linear(face, inner), nn.GELU(), nn.Linear(inner, width * shape.tokens))
        self.token_norm = nn.LayerNorm(width)
        self.perceiver_resampler = Resampler(seen, width, shape.depth)

    def forward(self, faces: Tensor, image: Tensor) -> Tensor:
        tokens = self.token_norm(self.token_proj(faces).unflatten(-1, (-1, self.token_norm.normalized_shape[0])))
        return tokens + self.perceiver_resampler(tokens, image)


class FaceIdEncoder(IdEncoder):
    """Each photo becomes K tokens, which are fused and composed as if they were K photos.

    The tower's two projections are in the published file and take no part in anything; neither does its last LayerNorm.
    """

    def __init__(
        self, vision_config: Any, width: int, compose: ComposeChoice, max_images: int, *, shape: PerceiverShape
    ) -> None:
        """As `IdEncoder`, with the perceiver's shape."""
        super().__init__(vision_config, width, compose, shape.tokens * max_images)
        self.shape = shape
        self.qformer_perceiver = FacePerceiver(vision_config.hidden_size, width, shape)
        if self.visual_projection_2 is not None:  # in no checkpoint of a run, since it is not trained: nothing random
            nn.init.zeros_(self.visual_projection_2.weight)

    def embed(self, pixels: Tensor, faces: Tensor | None = None) -> Tensor:
        """Tokens of each photo, [M, K, D].

        Args:
            pixels: [M, 3, S, S], or what `lower_tower` made of them, [M, T, H]: then only the layers above run.
            faces: [M, E], the embedding of each photo's face, as its network gives it, not normalised.
        """
        if faces is None:
            raise ValueError("this adapter needs a face embedding for each photo")
        if pixels.ndim == 3:
            hidden = upper_layers(self.vision_model, pixels, self.frozen_layers)
        else:
            hidden = self.vision_model(pixels).last_hidden_state
        return self.qformer_perceiver(faces.to(hidden.dtype), hidden)

    def fuse(self, embeds: Tensor, counts: Tensor, c: Tensor, weights: Tensor | None = None) -> Tensor:
        """Identity tokens from what `embed` gave, [M, K, D]; a photo's weight is that of all its tokens."""
        each = embeds.shape[1]
        known = None if weights is None else weights.repeat_interleave(each)
        return super().fuse(embeds.flatten(0, 1), each * counts, c, known)

    def freeze_below(self, train_layers: int) -> None:
        """Train the perceiver, the fusion and the upper layers of the tower, of it all that counts."""
        super().freeze_below(train_layers)
        for unused in (self.visual_projection, self.visual_projection_2, self.vision_model.post_layernorm):
            if unused is not None:
                unused.requires_grad_(False)


def build_face_encoder(
    base: BaseModel, config: AdapterConfig, shape: PerceiverShape, vision_config: dict[str, Any] | None
) -> IdEncoder:
    """As `build_id_encoder`, for a base."""
    return build_id_encoder(
        base.text_width,
        config.compose,
        config.max_id_images,
        vision_path=base.vision_path,
        vision_config=vision_config,
        make=partial(FaceIdEncoder, shape=shape),
    )


def perceiver_shape(encoder: Mapping[str, Tensor], name: str) -> PerceiverShape:
    """The shape that an id encoder's weights have, without their prefix; `name` is for messages.

    Raises:
        CheckpointError: the perceiver is missing, or not whole.
    """
    face = encoder.get(f"{PERCEIVER}token_proj.0.weight")
    out = encoder.get(f"{PERCEIVER}token_proj.2.bias")
    norm = encoder.get(f"{PERCEIVER}token_norm.weight")
    layers = f"{PERCEIVER}perceiver_resampler.layers."
    depth = len({key[len(layers) :].partition(".")[0] for key in encoder if key.startswith(layers)})
    if face is None or out is None or norm is None or not depth or out.shape[0] % norm.shape[0]:
        raise CheckpointError(f"{name} is not a whole PhotoMaker V2 adapter; copy or download it again")
    return PerceiverShape(face.shape[1], out.shape[0] // norm.shape[0], depth)
