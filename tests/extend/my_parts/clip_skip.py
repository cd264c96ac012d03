"""`base=clip_skip`: Stable Diffusion 1.x models that were trained on the text encoder's penultimate layer.

Many fine-tuned models are ("clip skip 2"); their files are those of any Stable Diffusion 1.x, so the configuration has
to say it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pm.model.families.sd15 import StableDiffusion

if TYPE_CHECKING:
    from torch import Tensor, nn

    from pm.model.conditioning import TextFeatures


@dataclass(frozen=True)
class ClipSkip(StableDiffusion):
    title: ClassVar[str] = "Stable Diffusion 1.x with clip skip 2"
    takes_clip_skip: ClassVar[bool] = False  # it is decided here

    def claims(self, index: Mapping[str, Any]) -> bool:
        return False  # no file says so

    def encode(self, encoders: Sequence[nn.Module], input_ids: Sequence[Tensor]) -> TextFeatures:
        from pm.model.conditioning import TextFeatures

        encoder = encoders[0]
        output = encoder(input_ids[0].to(encoder.device), output_hidden_states=True)
        states = encoder.final_layer_norm(output.hidden_states[-2])
        return TextFeatures(states, states.new_zeros(states.shape[0], 0))
