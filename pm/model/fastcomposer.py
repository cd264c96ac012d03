"""FastComposer (Xiao et al. 2023): one fused token for a person, and attention of that token kept on the person.

The id encoder is PhotoMaker's, which took it over (section 3.2 of its paper). What differs: a person is one token, the
mean of the photos' embeddings fused with the class word; the whole U-Net is trained; and a loss on cross-attention.
"""

from typing import Any

from torch import Tensor, nn

from pm.model.base import BaseModel
from pm.model.conditioning import TextFeatures
from pm.model.config import ID_PREFIX, AdapterConfig
from pm.model.kinds.base import Penalised
from pm.model.localisation import AttentionWatch, balanced_l1
from pm.model.photomaker import PhotoMaker

UNET_PREFIX = "unet."


class FastComposer(PhotoMaker):
    """The U-Net with a fused token, in training. Shapes as in `PhotoMaker`."""

    kind = "fastcomposer"

    def __init__(
        self,
        base: BaseModel,
        config: AdapterConfig,
        *,
        whole: bool,
        localization_weight: float,
        localization_blocks: int,
        vision_config: dict[str, Any] | None = None,
    ) -> None:
        """Build the id encoder, and make the U-Net trainable.

        Args:
            base: as in `PhotoMaker`.
            config: compose=average and merge=insert.
            whole: train the whole U-Net, as in the paper; else LoRA.
            localization_weight: of the loss on cross-attention.
            localization_blocks: blocks of the U-Net that it looks at, from the middle.
            vision_config: as in `PhotoMaker`.
        """
        self.whole = whole  # asked for by `change_unet`, before the rest is there
        super().__init__(base, config, vision_config)
        self.localization_weight = localization_weight
        self.watch = AttentionWatch(self.unet, localization_blocks)

    def change_unet(self) -> None:
        if self.whole:
            self.unet.requires_grad_(True)
        else:
            super().change_unet()

    def forward(self, noisy: Tensor, timesteps: Tensor, batch: Any) -> Penalised:
        """The U-Net's output, and the loss of cross-attention for rows that see the person."""
        text = TextFeatures(batch.embeds, batch.pooled)
        conditioning = self.condition(
            text,
            batch.class_index,
            batch.id_pixels,
            batch.id_counts,
            batch.time_ids,
            most_photos=getattr(batch, "most_photos", None),
        )
        with self.watch.watching(batch.class_index) as seen:
            prediction = self.predict(noisy, timesteps, self.drop_rows(conditioning, batch.drop_text))
        losses = [balanced_l1(attention, batch.mask) for attention in seen.values()]
        penalty = sum(losses, prediction.new_zeros(len(prediction)).float()) / max(1, len(losses))
        return Penalised(prediction, self.localization_weight * penalty * ~batch.drop_text)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """ "lora" is the U-Net, "id_encoder" what is before it."""
        groups = super().parameter_groups()
        return groups | {"lora": list(self.unet.parameters())} if self.whole else groups

    def adapter_parameters(self) -> dict[str, nn.Parameter]:
        if not self.whole:
            return super().adapter_parameters()
        encoder = {ID_PREFIX + name: p for name, p in self.id_encoder.named_parameters()}
        return encoder | {UNET_PREFIX + name: p for name, p in self.unet.named_parameters()}
