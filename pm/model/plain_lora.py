"""A LoRA alone, in training: the text is the caption's, and photos say nothing."""

from typing import Any

import torch
from torch import Tensor, nn

from pm.model.base import BaseModel
from pm.model.compose.stacked import Stacked
from pm.model.conditioning import Conditioning, TextFeatures
from pm.model.config import FUSED, LoraImpl
from pm.model.lora import add_lora, lora_parameters
from pm.model.trained import TrainedAdapter


class PlainLora(TrainedAdapter):
    """Shapes as in `Conditioner`."""

    kind = "lora"

    def __init__(
        self,
        base: BaseModel,
        rank: int,
        targets: tuple[str, ...],
        trigger_word: str,
        max_id_images: int,
        impl: LoraImpl = FUSED,
    ) -> None:
        """Put LoRA into `base.unet`, in place.

        Args:
            base: loaded with its U-Net.
            rank: of the LoRA.
            targets: names of the matrices that get one.
            trigger_word: may stand in captions, where it says nothing.
            max_id_images: as many photos may come with a sample; they are not looked at.
            impl: of `add_lora`.

        Raises:
            CheckpointError: the U-Net is not loaded, or carries an adapter already.
        """
        super().__init__()
        self.attach(base)
        self._settings = {"rank": rank, "targets": list(targets)}
        self._trigger_word, self._max_id_images = trigger_word, max_id_images
        add_lora(self.unet, rank, targets, impl)

    @property
    def trigger_word(self) -> str:
        return self._trigger_word

    @property
    def max_id_images(self) -> int:
        return self._max_id_images

    @property
    def image_size(self) -> int:
        return 1

    @property
    def embed_dtype(self) -> torch.dtype:
        return self.dtype

    def embed(self, pixels: Tensor, faces: Tensor | None = None) -> Tensor:
        """Nothing of each photo, [M, 0]."""
        return pixels.new_zeros(pixels.shape[0], 0)

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
        """The text as it is."""
        return Conditioning.from_text(text, time_ids)

    def forward(self, noisy: Tensor, timesteps: Tensor, batch: Any) -> Tensor:
        """The U-Net's output for the captions; rows that are dropped see the null text."""
        conditioning = Conditioning.from_text(batch.text, batch.time_ids)
        return self.predict(noisy, timesteps, self.drop_rows(conditioning, batch.drop_text))

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        return {"lora": list(self.adapter_parameters().values()), "id_encoder": []}

    def adapter_parameters(self) -> dict[str, nn.Parameter]:
        """By diffusers' own names, so that the file is a LoRA to everybody."""
        return lora_parameters(self.unet, self.base.family.lora_prefix)

    def about(self) -> dict[str, Any]:
        return {"compose": Stacked("stacked"), "merge": "attention", "vision_config": {}, "settings": self._settings}
