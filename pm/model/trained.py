"""What every kind of adapter has in common in training: the base's U-Net inside, and names for what is learnt."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pm.errors import CheckpointError
from pm.model.base import BaseModel, check_trainable, null_text
from pm.model.conditioner import Conditioner
from pm.model.conditioning import Conditioning


class TrainedAdapter(Conditioner):
    """A conditioner with the U-Net: one nn.Module, which one engine wraps.

    Shapes: B rows, C x h x w latents, T tokens of the conditioning.
    """

    kind: ClassVar[str]  # what its file names
    base: BaseModel
    unet: Any
    null_embeds: Tensor  # [1, L, D]
    null_pooled: Tensor  # [1, P]

    def attach(self, base: BaseModel) -> None:
        """Take the base's U-Net, and its null text, inside.

        Raises:
            CheckpointError: the base was loaded without it, or is one for inpainting.
        """
        check_trainable(base)
        if base.unet is None:
            raise CheckpointError(f"base {base.path} was loaded without its U-Net; add 'unet' to parts")
        self.base, self.unet = base, base.unet
        null = null_text(base, 1)
        self.register_buffer("null_embeds", null.embeds.clone(), persistent=False)
        self.register_buffer("null_pooled", null.pooled.clone(), persistent=False)

    @property
    def dtype(self) -> torch.dtype:
        """Of the U-Net, and so of what it takes and gives."""
        found: torch.dtype = self.unet.dtype
        return found

    @property
    def device(self) -> torch.device:
        found: torch.device = self.unet.device
        return found

    def forward(self, noisy: Tensor, timesteps: Tensor, batch: Any) -> Any:
        """Condition and predict in one call, for training.

        Args:
            noisy: [B, C, h, w].
            timesteps: [B].
            batch: `pm.data.loading.batches.Batch`, on this module's device.

        Returns:
            the U-Net's output [B, C, h, w], or `pm.model.kinds.base.Penalised`.
        """
        raise NotImplementedError

    def predict(self, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """The U-Net's output [B, C, h, w] for noisy latents [B, C, h, w] at timesteps [B]."""
        base = self.base
        return base.family.predict(self.unet, noisy, timesteps, conditioning, max_tokens=base.max_tokens)

    def drop_rows(self, conditioning: Conditioning, drop: Tensor) -> Conditioning:
        """Give the rows where `drop` [B] is True the null text (paper section 4.1), for classifier-free guidance.

        Out of place and for every row alike: a rank whose rows are all dropped still calls every module.
        """
        length = conditioning.embeds.shape[1]
        null = self.null_embeds.to(conditioning.embeds.dtype)
        seen = torch.arange(length, device=drop.device) < null.shape[1]
        null = F.pad(null, (0, 0, 0, length - null.shape[1]))
        return Conditioning(
            embeds=torch.where(drop[:, None, None], null, conditioning.embeds),
            mask=torch.where(drop[:, None], seen, conditioning.mask),
            pooled=torch.where(drop[:, None], self.null_pooled.to(conditioning.pooled.dtype), conditioning.pooled),
            time_ids=conditioning.time_ids,
            text_embeds=conditioning.text_embeds,
            text_pooled=conditioning.text_pooled,
            image=conditioning.image,
            regions=None if conditioning.regions is None else conditioning.regions.without(drop),
        )

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Trainable parameters: "lora", what is in the U-Net, and "id_encoder", what is before it."""
        raise NotImplementedError

    def adapter_parameters(self) -> dict[str, nn.Parameter]:
        """Every parameter of the adapter by its key in the file."""
        raise NotImplementedError

    def about(self) -> Mapping[str, Any]:
        """Fields of the file's metadata that are this kind's own: `compose`, `merge`, `vision_config`, `settings`."""
        raise NotImplementedError
