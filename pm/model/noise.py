"""How a base model was trained to see noise, from its diffusers `scheduler_config.json`."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pm.errors import ConfigError

PREDICTIONS = ("epsilon", "v_prediction", "sample")


def prediction_type(config: Mapping[str, Any]) -> str:
    """What the U-Net predicts.

    Raises:
        ConfigError: something we do not know.
    """
    kind = config.get("prediction_type", "epsilon")
    if kind not in PREDICTIONS:
        raise ConfigError(f"prediction_type={kind!r} of the base's scheduler is not one of {', '.join(PREDICTIONS)}")
    return kind


def alpha_bar(config: Mapping[str, Any]) -> Tensor:
    """Cumulative product of 1 - beta at every training step, [T] float64; defaults as in diffusers.

    Raises:
        ConfigError: a beta schedule we do not know.
    """
    cumulative = torch.cumprod(1 - _betas(config), 0)
    if not config.get("rescale_betas_zero_snr", False):
        return cumulative
    # Lin et al. 2024, algorithm 1: shift and scale sqrt(alpha_bar) so that the last step is pure noise.
    root = cumulative.sqrt()
    return ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2


def _betas(config: Mapping[str, Any]) -> Tensor:
    if config.get("trained_betas") is not None:
        return torch.tensor(config["trained_betas"], dtype=torch.float64)
    steps = int(config.get("num_train_timesteps", 1000))
    start, end = float(config.get("beta_start", 0.0001)), float(config.get("beta_end", 0.02))
    kind = config.get("beta_schedule", "linear")
    if kind == "linear":
        return torch.linspace(start, end, steps, dtype=torch.float64)
    if kind == "scaled_linear":
        return torch.linspace(start**0.5, end**0.5, steps, dtype=torch.float64) ** 2
    if kind == "squaredcos_cap_v2":
        level = [math.cos((i / steps + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(steps + 1)]
        return torch.tensor([min(1 - b / a, 0.999) for a, b in zip(level[:-1], level[1:], strict=True)]).double()
    raise ConfigError(
        f"beta_schedule={kind!r} of the base's scheduler is not one of linear, scaled_linear, squaredcos_cap_v2"
    )
