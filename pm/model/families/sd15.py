"""Stable Diffusion 1.x and 2.x (Rombach et al. 2022): one text encoder, no pooled text, no time ids.

The two differ in sizes and in what the U-Net predicts (2.x at 768 px: the velocity), which their configs say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pm.model.families.base import Family, is_pipeline, states_before_end

if TYPE_CHECKING:
    from torch import Tensor

    from pm.model.conditioning import TextFeatures


@dataclass(frozen=True)
class StableDiffusion(Family):
    """Text features are the encoder's last states, after its final norm (2.x leaves out the last layer by itself)."""

    title: ClassVar[str] = "Stable Diffusion 1.x and 2.x"
    parts: ClassVar[Mapping[str, str]] = {
        "text_encoder": "transformers.CLIPTextModel",
        "vae": "diffusers.AutoencoderKL",
        "unet": "diffusers.UNet2DConditionModel",
    }
    text_encoders: ClassVar[tuple[str, ...]] = ("text_encoder",)
    tokenizers: ClassVar[tuple[str, ...]] = ("tokenizer",)
    takes_clip_skip: ClassVar[bool] = True

    def claims(self, index: Mapping[str, Any]) -> bool:
        others = ("text_encoder_2", "text_encoder_3", "transformer", "prior", "image_normalizer", "controlnet")
        named = str(index.get("_class_name", "")).startswith("StableDiffusion")  # others have these parts, too
        return named and is_pipeline(index, has=(*self.parts, *self.tokenizers), lacks=others)

    def encode(
        self, encoders: Sequence[Any], input_ids: Sequence[Tensor], clip_skip: Sequence[int] | None = None
    ) -> TextFeatures:
        from pm.model.conditioning import TextFeatures

        encoder = encoders[0]
        skips = any(clip_skip or ())
        output = encoder(input_ids[0].to(encoder.device), output_hidden_states=skips)
        states = output.last_hidden_state
        if skips:
            states = encoder.final_layer_norm(states_before_end(output.hidden_states, 0, clip_skip))
        return TextFeatures(states, states.new_zeros(states.shape[0], 0))
