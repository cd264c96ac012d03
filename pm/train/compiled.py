"""`train.compile`: the U-Net compiled by torch.compile, in training."""

from typing import Any

from pm.errors import ConfigError
from pm.model.compiled import Compile, compile_unet
from pm.model.trained import TrainedAdapter


def compile_for_training(model: TrainedAdapter, how: Compile, splits_weights: bool, **options: Any) -> None:
    """Compile a model's U-Net in place, also under gradient checkpointing; its code is made in the first steps.

    Sizes are those of training, always the same; but texts have as many tokens as their photos bring, so the code is
    made once more for any number of them.

    Args:
        model: whose U-Net has its LoRA already.
        how: "off" changes nothing.
        splits_weights: of the engine.
        options: of `torch.compile`.

    Raises:
        ConfigError: the engine's weights come and go with the calls of modules, or the model looks into attention.
    """
    if how == "off":
        return
    if splits_weights:
        raise ConfigError(
            f"train.compile={how} does not go with engine=zero3, whose weights come and go between the layers; use "
            "train.compile=off, or engine=ddp, zero1 or zero2"
        )
    if hasattr(model, "watch"):
        raise ConfigError(
            f"train.compile={how} does not go with model={model.kind}, whose loss looks into attention; use "
            "train.compile=off"
        )
    compile_unet(model.unet, how, **({"dynamic": None} | options))
