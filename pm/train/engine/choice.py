"""The kind `engine`: how gradients and optimizer states are shared between the workers (`conf/engine/*.yaml`)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pm.choice import Choice

if TYPE_CHECKING:
    import torch
    from torch import nn

    from pm.train.config import TrainConfig
    from pm.train.engine.base import Engine


@dataclass(frozen=True)
class EngineChoice(Choice, group="engine", package="pm.train.engine"):
    """An engine and its settings."""

    name: str

    def settled(self, module: "nn.Module", train: "TrainConfig", device: "torch.device") -> "tuple[EngineChoice, str]":
        """The engine to build, and why, in a line for the console ("": nothing to say). Collective.

        Args:
            module: as in `build`.
            train: likewise.
            device: likewise.
        """
        return self, ""

    def build(
        self,
        module: "nn.Module",
        groups: "Mapping[str, list[nn.Parameter]]",
        train: "TrainConfig",
        device: "torch.device",
    ) -> "Engine":
        """Move a module to the device and wrap it. Collective.

        Args:
            module: its weights are final (initialised, or loaded with `load_weights`); all trainable parameters are
                float32, frozen ones may have any dtype.
            groups: trainable parameters by group name, `PhotoMaker.parameter_groups()`.
            train: batch, rates and clipping.
        """
        raise NotImplementedError
