"""Stable Diffusion XL (Podell et al. 2023): two text encoders, a pooled text, and the picture's size and crop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from pm.model.families.base import BaseShapes, Family, is_pipeline, states_before_end

if TYPE_CHECKING:
    from torch import Tensor

    from pm.model.conditioning import Conditioning, TextFeatures


@dataclass(frozen=True)
class StableDiffusionXL(Family):
    """Text features are the penultimate states of both encoders, concatenated; the second one's projection is the
    pooled text."""

    title: ClassVar[str] = "Stable Diffusion XL"
    parts: ClassVar[Mapping[str, str]] = {
        "text_encoder": "transformers.CLIPTextModel",
        "text_encoder_2": "transformers.CLIPTextModelWithProjection",
        "vae": "diffusers.AutoencoderKL",
        "unet": "diffusers.UNet2DConditionModel",
    }
    text_encoders: ClassVar[tuple[str, ...]] = ("text_encoder", "text_encoder_2")
    tokenizers: ClassVar[tuple[str, ...]] = ("tokenizer", "tokenizer_2")
    takes_clip_skip: ClassVar[bool] = True

    def claims(self, index: Mapping[str, Any]) -> bool:
        return is_pipeline(index, has=(*self.parts, *self.tokenizers), lacks=("text_encoder_3", "transformer", "prior"))

    def shapes(self, configs: Mapping[str, Mapping[str, Any]]) -> BaseShapes:
        pooled = int(configs[self.text_encoders[1]]["projection_dim"])
        return replace(super().shapes(configs), pooled_width=pooled)

    def encode(
        self, encoders: Sequence[Any], input_ids: Sequence[Tensor], clip_skip: Sequence[int] | None = None
    ) -> TextFeatures:
        import torch

        from pm.model.conditioning import TextFeatures

        outputs = [
            encoder(ids.to(encoder.device), output_hidden_states=True)
            for encoder, ids in zip(encoders, input_ids, strict=True)
        ]
        states = [states_before_end(o.hidden_states, 1, clip_skip) for o in outputs]
        return TextFeatures(torch.cat(states, dim=-1), outputs[-1].text_embeds)

    def null_is_zero(self, index: Mapping[str, Any]) -> bool:
        return bool(index.get("force_zeros_for_empty_prompt", True))

    def time_ids(
        self, original: tuple[float, float], corner: tuple[float, float], target: tuple[float, float]
    ) -> tuple[float, ...]:
        """Micro-conditioning (section 2.2)."""
        return tuple(float(value) for value in (*original, *corner, *target))

    def added_conditioning(self, conditioning: Conditioning) -> dict[str, Tensor]:
        return {"text_embeds": conditioning.pooled, "time_ids": conditioning.time_ids}
