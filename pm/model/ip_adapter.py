"""IP-Adapter (Ye et al. 2023): photos are an image prompt, which the U-Net attends to beside the text.

What is learnt is a projection of a frozen vision tower's output to tokens, and a key and a value matrix for these in
every cross-attention layer. Parameter names are those of the published files: `image_proj.*` and
`ip_adapter.<1, 3, 5, ...>.to_{k,v}_ip.weight`.

Several photos of a person: their tokens stand one after another, as diffusers has it. Attention then picks from each
photo what it shows best, nothing is averaged away, and any number of photos fits.
"""

from typing import Any

import torch
from torch import Tensor, nn

from pm.errors import CheckpointError
from pm.model.base import BaseModel
from pm.model.compose.stacked import Stacked
from pm.model.conditioner import Conditioner
from pm.model.conditioning import Conditioning, TextFeatures
from pm.model.files import folder_fingerprint
from pm.model.image_projection import Projection
from pm.model.image_prompt import ImagePrompt, attend_to_images, cross_attention_layers
from pm.model.ragged import pad_ragged
from pm.model.trained import TrainedAdapter

PROJECTION, ATTENTION = "image_proj.", "ip_adapter."


class KeyValue(nn.Module):
    """The new matrices of one cross-attention layer."""

    def __init__(self, width: int, inner: int) -> None:
        """`width`: D of the tokens. `inner`: C_i of the layer."""
        super().__init__()
        self.to_k_ip = nn.Linear(width, inner, bias=False)
        self.to_v_ip = nn.Linear(width, inner, bias=False)


class ImagePrompter(Conditioner):
    """Photos to an image prompt; the text stays as it is.

    Shapes: M photos of B rows (ragged, `id_counts` [B]), K tokens of a photo, D text width, S the tower's input side.
    """

    def __init__(self, base: BaseModel, tower: Any, projection: Projection, trigger_word: str, max_images: int) -> None:
        """Build new key and value matrices for a base's U-Net, which is taught to attend to images.

        Args:
            base: loaded with its U-Net.
            tower: a `CLIPVisionModelWithProjection`, which is frozen.
            projection: of its output.
            trigger_word: may stand in prompts, where it says nothing.
            max_images: N_max.

        Raises:
            CheckpointError: the tower's output or the U-Net is not what the projection is for.
        """
        super().__init__()
        seen = tower.config.hidden_size if projection.reads_hidden else tower.config.projection_dim
        if seen != projection.seen:
            raise CheckpointError(
                f"this IP-Adapter reads image features of width {projection.seen}, those of {base.vision_path} have "
                f"{seen}; set base.vision_path to the vision tower it was trained with"
            )
        attend_to_images(base.unet)
        layers = cross_attention_layers(base.unet).values()
        self.tower: Any = tower.requires_grad_(False).eval()
        self.image_proj = projection
        # Published files number all attention layers; every other one attends to itself.
        matrices = {str(2 * i + 1): KeyValue(each.cross_attention_dim, each.inner_dim) for i, each in enumerate(layers)}
        self.ip_adapter = nn.ModuleDict(matrices)
        self._trigger_word, self._max_images = trigger_word, max_images

    @property
    def trigger_word(self) -> str:
        return self._trigger_word

    @property
    def max_id_images(self) -> int:
        return self._max_images

    @property
    def image_size(self) -> int:
        return int(self.tower.config.image_size)

    @property
    def embed_dtype(self) -> torch.dtype:
        found: torch.dtype = self.tower.dtype
        return found

    def embed(self, pixels: Tensor, faces: Tensor | None = None) -> Tensor:
        """Tokens of each photo, [M, K, D]."""
        return self.project(self.features(pixels))

    @torch.no_grad()
    def features(self, pixels: Tensor) -> Tensor:
        """What the frozen tower says of photos [M, 3, S, S]: [M, E], or hidden states [M, T, H]."""
        output = self.tower(pixel_values=pixels, output_hidden_states=self.image_proj.reads_hidden)
        found: Tensor = output.hidden_states[-2] if self.image_proj.reads_hidden else output.image_embeds
        return found

    def null_features(self) -> Tensor:
        """`features` of no photo, for one: zeros, or the hidden states of a grey picture (as published)."""
        size, weight = self.image_size, self.tower.visual_projection.weight
        if not self.image_proj.reads_hidden:
            return weight.new_zeros(1, self.tower.config.projection_dim)  # under ZeRO-3 the weight is empty
        return self.features(weight.new_zeros(1, 3, size, size))

    def project(self, features: Tensor) -> Tensor:
        """Tokens of each photo, [M, K, D]."""
        tokens: Tensor = self.image_proj(features)
        return tokens

    def prompt(
        self, tokens: Tensor, id_counts: Tensor, scale: Tensor | None = None, most: int | None = None
    ) -> ImagePrompt:
        """Keys and values of B rows, from the tokens [M, K, D] of their photos; `scale` [B], default 1.

        `most`: the largest of `id_counts`, where the host knows it; else it is read from the device.
        """
        photos, each, width = tokens.shape
        most = int(id_counts.max()) if most is None else most
        padded = pad_ragged(tokens.flatten(1), id_counts, most).unflatten(-1, (each, width)).flatten(1, 2)
        mask = (torch.arange(most, device=tokens.device) < id_counts[:, None]).repeat_interleave(each, dim=1)
        layers: Any = self.ip_adapter.values()
        pairs = [(layer.to_k_ip(padded), layer.to_v_ip(padded)) for layer in layers]
        known = torch.ones(len(id_counts), device=tokens.device) if scale is None else scale.float()
        return ImagePrompt(tuple(k for k, _ in pairs), tuple(v for _, v in pairs), mask, known)

    def condition(
        self,
        text: TextFeatures,
        class_index: Tensor,
        id_pixels: Tensor | None,
        id_counts: Tensor,
        time_ids: Tensor,
        *,
        weights: Tensor | None = None,
        plain: TextFeatures | None = None,
        id_embeds: Tensor | None = None,
        scale: Tensor | None = None,
    ) -> Conditioning:
        """The text as it is, and an image prompt of the photos."""
        if id_embeds is None:
            if id_pixels is None:
                raise ValueError("neither id_pixels nor id_embeds is given")
            id_embeds = self.embed(id_pixels)
        found = Conditioning.from_text(text, time_ids)
        return found.with_image(self.prompt(id_embeds, id_counts, scale))

    @torch.no_grad()
    def null_image(self) -> ImagePrompt:
        """The image prompt of no photo, for one row: what rows without text and photos were trained with."""
        tokens = self.project(self.null_features())
        return self.prompt(tokens, torch.ones(1, dtype=torch.int64, device=tokens.device))


class IPAdapter(ImagePrompter, TrainedAdapter):
    """The U-Net with an image prompt, in training."""

    kind = "ip_adapter"

    def __init__(self, base: BaseModel, tower: Any, projection: Projection, trigger_word: str, max_images: int) -> None:
        """As `ImagePrompter`; the new matrices start as the text's own (section 3.2.2 there)."""
        super().__init__(base, tower, projection, trigger_word, max_images)
        self.attach(base)
        self.unet.requires_grad_(False)
        matrices: Any = self.ip_adapter.values()
        with torch.no_grad():
            for new, own in zip(matrices, cross_attention_layers(self.unet).values(), strict=True):
                new.to_k_ip.weight.copy_(own.to_k.weight)
                new.to_v_ip.weight.copy_(own.to_v.weight)
        self._vision = folder_fingerprint(base.vision_path)
        self.null: Tensor
        self.register_buffer("null", self.null_features().clone(), persistent=False)

    def train(self, mode: bool = True) -> "IPAdapter":
        super().train(mode)
        self.tower.eval()
        return self

    def forward(self, noisy: Tensor, timesteps: Tensor, batch: Any) -> Tensor:
        """The U-Net's output; rows that are dropped see neither text nor photos, as guidance's other half does."""
        dropped = torch.repeat_interleave(batch.drop_text, batch.id_counts, output_size=batch.id_pixels.shape[0])
        features = self.features(batch.id_pixels.to(self.embed_dtype))
        shape = (-1, *(1,) * (features.ndim - 1))
        tokens = self.project(torch.where(dropped.view(shape), self.null.to(features), features))
        text = TextFeatures(batch.embeds, batch.pooled)
        prompt = self.prompt(tokens, batch.id_counts, most=getattr(batch, "most_photos", None))
        conditioning = Conditioning.from_text(text, batch.time_ids).with_image(prompt)
        return self.predict(noisy, timesteps, self.drop_rows(conditioning, batch.drop_text))

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """ "lora" is what the U-Net attends with, "id_encoder" the projection."""
        return {"lora": list(self.ip_adapter.parameters()), "id_encoder": list(self.image_proj.parameters())}

    def adapter_parameters(self) -> dict[str, nn.Parameter]:
        projection = {PROJECTION + name: p for name, p in self.image_proj.named_parameters()}
        return projection | {ATTENTION + name: p for name, p in self.ip_adapter.named_parameters()}

    def about(self) -> dict[str, Any]:
        settings = {"vision": self._vision}
        return {"compose": Stacked("stacked"), "merge": "attention", "vision_config": {}, "settings": settings}
