"""ZeRO engines of one worker, which the configuration would train without DeepSpeed."""

import torch

from pm.train.engine.base import load_weights, make_optimizer
from pm.train.engine.deepspeed_config import deepspeed_config
from support.loops import make_step
from support.training import train_config

CPU = torch.device("cpu")


def zero_engine(stage, weights=None, **settings):
    """The engine around a model of one layer, new or with `weights`, its weight and its bias in a group each."""
    from pm.train.engine.partitioned import ZeroEngine

    step, train = make_step(), train_config(**settings)
    if weights is not None:
        load_weights(step, weights)
    trained = step.photomaker.trained
    optimizer = make_optimizer({"lora": [trained.weight], "id_encoder": [trained.bias]}, train, CPU)
    elements = trained.weight.numel() + trained.bias.numel()
    return ZeroEngine(step, optimizer, deepspeed_config(stage, {}, train, 1, elements, CPU), train, CPU)
