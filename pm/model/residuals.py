"""Feature maps that controls add inside the U-Net (`pm.model.control`)."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Residuals:
    """What is added inside the U-Net in one step, for B rows; zeros where a row has no control."""

    skips: tuple[Tensor, ...] = ()  # of ControlNets: of each skip connection, and of the middle block last
    blocks: tuple[Tensor, ...] = ()  # of T2I-Adapters: of the first down blocks

    @property
    def arguments(self) -> dict[str, Any]:
        """Of the U-Net's call, by diffusers' names."""
        found: dict[str, Any] = {}
        if self.skips:
            found["down_block_additional_residuals"] = self.skips[:-1]
            found["mid_block_additional_residual"] = self.skips[-1]
        if self.blocks:
            found["down_intrablock_additional_residuals"] = list(self.blocks)  # the U-Net empties it
        return found
