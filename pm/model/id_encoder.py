"""ID photos and the class word to identity tokens (paper section 3.2, figure 2a).

Parameter names are those of the published checkpoint, so that both load strictly.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pm.errors import CheckpointError
from pm.model.compose.base import ComposeChoice
from pm.model.files import quiet_loading, resolve_folder, unreadable, weight_files

# The published weights' vision tower: openai/clip-vit-large-patch14.
PUBLISHED_VISION = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_attention_heads": 16,
    "num_hidden_layers": 24,
    "patch_size": 14,
    "projection_dim": 768,
    "image_size": 224,
    "hidden_act": "quick_gelu",
}


class FuseMlp(nn.Module):
    """LayerNorm, then two linear layers with a GELU between."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.layernorm = nn.LayerNorm(width_in)
        self.fc1 = nn.Linear(width_in, width)
        self.fc2 = nn.Linear(width, width)
        self.act = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        """[..., width_in] to [..., width]."""
        return self.fc2(self.act(self.fc1(self.layernorm(x))))


class FuseModule(nn.Module):
    """Fuse the class word's text feature c with image embeddings e: the two MLPs of section 3.2."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp1 = FuseMlp(2 * width, width)
        self.mlp2 = FuseMlp(width, width)
        self.layer_norm = nn.LayerNorm(width)

    def forward(self, c: Tensor, e: Tensor) -> Tensor:
        """c and e, each [K, D], to fused tokens [K, D]."""
        x = self.mlp1(torch.cat([c, e], dim=-1)) + c
        x = self.mlp2(x) + x
        return self.layer_norm(x)


class IdEncoder(nn.Module):
    """CLIP vision tower, its two projections, the composition and the fusion."""

    def __init__(self, vision_config: Any, width: int, compose: ComposeChoice, max_images: int) -> None:
        """`vision_config`: a CLIPVisionConfig. `width`: D, the text width the tokens must have."""
        from transformers import CLIPVisionModel

        super().__init__()
        hidden, projected = vision_config.hidden_size, vision_config.projection_dim
        if projected > width:
            raise CheckpointError(
                f"vision tower projects to {projected}, the base's text width is {width}; use its own tower"
            )
        self.vision_model: Any = CLIPVisionModel(vision_config)
        self.visual_projection = nn.Linear(hidden, projected, bias=False)
        # P2 fills up what P1 does not give; a base as wide as the tower's own projection (SD 1.5: 768) needs none.
        self.visual_projection_2 = None if projected == width else nn.Linear(hidden, width - projected, bias=False)
        if self.visual_projection_2 is not None:
            nn.init.normal_(self.visual_projection_2.weight, std=hidden**-0.5)
        self.fuse_module = FuseModule(width)
        self.compose = compose.build(width, max_images)
        self.frozen_layers = 0  # the lowest layers, as `freeze_below` leaves them

    @property
    def image_size(self) -> int:
        """Side of the pixels this tower takes."""
        return int(self.vision_model.config.image_size)

    @property
    def vision_config(self) -> dict[str, Any]:
        """What is needed to build the tower again without its folder."""
        return {name: getattr(self.vision_model.config, name) for name in PUBLISHED_VISION}

    def forward(self, pixels: Tensor, counts: Tensor, c: Tensor, weights: Tensor | None = None) -> Tensor:
        """Identity tokens of a ragged batch.

        Args:
            pixels: [M, 3, S, S], normalised as CLIP does; the images of a row are contiguous.
            counts: [B] int64, images of each row, at least 1.
            c: [K, D], the class word's text feature beside each token (K: `ComposeChoice.tokens`).
            weights: [M] or None, how much each image counts: its token moves from c (0) through itself (1) beyond.

        Returns:
            tokens [K, D].
        """
        return self.fuse(self.embed(pixels), counts, c, weights)

    def fuse(self, embeds: Tensor, counts: Tensor, c: Tensor, weights: Tensor | None = None) -> Tensor:
        """`forward` from the embeddings [M, D] that `embed` gave: they know neither prompt nor class word."""
        # In the embeddings' own precision: under autocast it is not that of the pixels.
        known = embeds.new_ones(embeds.shape[0]) if weights is None else weights.to(embeds)
        e, strength = self.compose(embeds, counts, known)
        fused = self.fuse_module(c.to(e.dtype), e)
        if weights is None:
            return fused
        return c + strength[:, None] * (fused - c)

    def embed(self, pixels: Tensor, faces: Tensor | None = None) -> Tensor:
        """e_i = [P1 h_i ; P2 h_i], [M, D], from the tower's pooled output h_i; `faces` are not looked at.

        `pixels` [M, 3, S, S], or what `lower_tower` made of them, [M, T, H]: then only the layers above run.
        """
        if pixels.ndim == 3:
            h = upper_tower(self.vision_model, pixels, self.frozen_layers)
        else:
            h = self.vision_model(pixels).pooler_output
        if self.visual_projection_2 is None:
            return self.visual_projection(h)
        return torch.cat([self.visual_projection(h), self.visual_projection_2(h)], dim=-1)

    def freeze_below(self, train_layers: int) -> None:
        """Train the projections, the fusion and the upper `train_layers` of the tower; all of it if it has no more."""
        layers = self.vision_model.encoder.layers
        self.frozen_layers = frozen_layers(self.vision_model, train_layers)
        whole = train_layers >= len(layers)
        self.requires_grad_(True)
        self.vision_model.requires_grad_(whole)
        if not whole and train_layers > 0:
            for layer in layers[len(layers) - train_layers :]:
                layer.requires_grad_(True)
            self.vision_model.post_layernorm.requires_grad_(True)


def frozen_layers(tower: Any, train_layers: int) -> int:
    """How many of the lowest layers stay as they are when the upper `train_layers` are trained; the embeddings too."""
    return max(0, len(tower.encoder.layers) - train_layers)


def lower_tower(tower: Any, pixels: Tensor, layers: int) -> Tensor:
    """The lowest `layers` layers of a CLIP vision tower: [M, 3, S, S], normalised as CLIP does, to [M, T, H]."""
    hidden = tower.pre_layrnorm(tower.embeddings(pixels))
    for layer in tower.encoder.layers[:layers]:
        hidden = layer(hidden, None)
    return hidden


def upper_layers(tower: Any, hidden: Tensor, layers: int) -> Tensor:
    """What is above `lower_tower`: [M, T, H] to the tower's last hidden states, [M, T, H]."""
    for layer in tower.encoder.layers[layers:]:
        hidden = layer(hidden, None)
    return hidden


def upper_tower(tower: Any, hidden: Tensor, layers: int) -> Tensor:
    """What is above `lower_tower`: [M, T, H] to the pooled output [M, H]."""
    return tower.post_layernorm(upper_layers(tower, hidden, layers)[:, 0])


def load_tower(vision_path: str) -> Any:
    """A pre-trained vision tower alone, frozen, float32.

    Raises:
        CheckpointError: its folder cannot be read.
    """
    return load_vision(vision_path).vision_model.eval().requires_grad_(False)


def build_id_encoder(
    width: int,
    compose: ComposeChoice,
    max_images: int,
    *,
    vision_path: str = "",
    vision_config: dict[str, Any] | None = None,
    make: Callable[[Any, int, ComposeChoice, int], IdEncoder] | None = None,
) -> IdEncoder:
    """An id encoder with a pre-trained tower from `vision_path`, or an untrained one of `vision_config`'s shape.

    `make`: another class of them, with the arguments of `IdEncoder`.

    Raises:
        CheckpointError: no tower given, or its folder cannot be read.
    """
    from transformers import CLIPVisionConfig

    make = make or IdEncoder
    if vision_config is not None:
        return make(CLIPVisionConfig(**vision_config), width, compose, max_images)
    tower = load_vision(vision_path)
    encoder = make(tower.config, width, compose, max_images)
    encoder.vision_model.load_state_dict(tower.vision_model.state_dict())
    encoder.visual_projection.load_state_dict(tower.visual_projection.state_dict())
    return encoder


def load_vision(vision_path: str) -> Any:
    """A pre-trained vision tower with its projection, float32.

    Raises:
        CheckpointError: none given, or its folder cannot be read.
    """
    from transformers import CLIPVisionModelWithProjection

    if not vision_path:
        raise CheckpointError(
            "the base has no image_encoder/; set base.vision_path, e.g. openai/clip-vit-large-patch14"
        )
    quiet_loading()
    folder = resolve_folder(vision_path)
    weight_files(folder)  # says what is wrong with them, if anything is
    try:
        return CLIPVisionModelWithProjection.from_pretrained(folder, use_safetensors=True, dtype=torch.float32)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise unreadable(folder, error) from error


def tower_shape(encoder: Mapping[str, Tensor]) -> dict[str, Any] | None:
    """Shape of a published id encoder's vision tower, with heads of 64 as in every CLIP; None: it has no tower."""
    prefix, projection = "vision_model.", encoder.get("visual_projection.weight")
    tower = {key.removeprefix(prefix): value for key, value in encoder.items() if key.startswith(prefix)}
    patch = tower.get("embeddings.patch_embedding.weight")
    position = tower.get("embeddings.position_embedding.weight")
    inner = tower.get("encoder.layers.0.mlp.fc1.weight")
    if patch is None or position is None or inner is None or projection is None:
        return None
    found = {
        "hidden_size": patch.shape[0],
        "intermediate_size": inner.shape[0],
        "num_hidden_layers": sum(key.endswith("mlp.fc1.weight") for key in tower),
        "patch_size": patch.shape[-1],
        "projection_dim": projection.shape[0],
        "image_size": round((position.shape[0] - 1) ** 0.5) * patch.shape[-1],
    }
    if all(PUBLISHED_VISION[name] == value for name, value in found.items()):
        return dict(PUBLISHED_VISION)
    heads = max(1, patch.shape[0] // 64)
    return PUBLISHED_VISION | found | {"num_attention_heads": heads}
